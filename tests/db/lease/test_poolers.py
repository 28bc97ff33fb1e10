"""A PgBouncer between the workers and PostgreSQL: in transaction mode it is found out, and said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.db.lease.site import Site, fill, view
from tests.db.observe.watching import listening
from tests.db.servers import PostgresServer
from tests.db.servers.pgbouncer import PgBouncer


@pytest.fixture(params=["transaction", "statement", "session", "none"])
def mode(request: pytest.FixtureRequest, postgres_site: Site) -> Iterator[str]:
    """The site's way to its server leads through a PgBouncer in this mode."""
    if request.param == "none":
        yield request.param
        return
    assert isinstance(postgres_site.server, PostgresServer)
    with PgBouncer(postgres_site.server, request.param) as bouncer:
        postgres_site.proxy.aim(bouncer.host, bouncer.port)
        yield request.param


def test_a_pooler_that_shares_sessions_is_told_once_with_the_remedy(postgres_site: Site, mode: str) -> None:
    from django.db import connection

    postgres_site.start(create=False)
    with listening() as seen:
        for _ in range(3):
            view(connection.ensure_connection)
            connection.close()
    told = seen.messages("transaction_pooler")
    if mode in ("transaction", "statement"):
        assert len(told) == 1
        assert "pool_mode = session" in told[0]
    else:
        assert not told


def test_nothing_of_the_question_is_left(postgres_site: Site) -> None:
    assert isinstance(postgres_site.server, PostgresServer)
    with PgBouncer(
        postgres_site.server, "session", size=1
    ) as bouncer:  # no room for a second session, so it is given up
        postgres_site.proxy.aim(bouncer.host, bouncer.port)
        item = postgres_site.start()
        fill(item, 2)
        assert view(item.objects.count) == 2
        from django.db import connection

        leased_pool = connection.leased_pool
        assert "djworker.probe" not in leased_pool.base
        assert leased_pool.pool.stats()["pool_size"] == 1
