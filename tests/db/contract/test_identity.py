"""By what a session is known is state of the session: who has asked for it keeps the session, and nothing is wiped for it."""

from __future__ import annotations

from contextlib import suppress

import gevent
import pytest

from tests.db.lease.site import Site, at_rest, eventually, held, pool, query, request, view

ASKED = {
    "postgres": [
        "SELECT pg_backend_pid()",
        'SELECT "pg_backend_pid"()',
        "SELECT pid FROM pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()",
        "SELECT txid_current()",
        "SELECT pg_current_xact_id()",
        "SELECT pg_export_snapshot()",
        "SELECT inet_client_port()",
    ],
    "mysql": [
        "SELECT CONNECTION_ID()",
        "SELECT @@pseudo_thread_id",
        "SHOW SESSION STATUS LIKE 'Questions'",
        "FLUSH STATUS",
    ],
}


def test_the_session_stays_the_same_and_is_not_wiped(leasing: Site) -> None:
    leasing.start(max_size=2)

    def work(statement: str) -> None:
        query(statement)
        assert held(), statement

    view(query, "SELECT 1")
    before = pool().stats()["returns_num"]
    for statement in ASKED[leasing.dialect]:
        view(work, statement)
        assert at_rest(), "given back as it was, without a round trip"
    assert pool().stats()["returns_num"] == before + len(ASKED[leasing.dialect])
    assert pool().stats()["connections_num"] == 1


def test_what_pins_for_more_is_wiped_all_the_same(leasing: Site) -> None:
    leasing.start(max_size=1)
    both = (
        ("SELECT pg_backend_pid(), set_config('app.tenant', 'red', false) FROM pg_class LIMIT 1", "app.tenant")
        if leasing.dialect == "postgres"
        else ("SELECT CONNECTION_ID(), GET_LOCK('mine', 0)", "")
    )
    view(query, both[0])
    eventually(at_rest, "wiped")
    if leasing.dialect == "postgres":
        assert view(query, "SELECT current_setting('app.tenant', true)")[0] in (None, "")
    else:
        assert view(query, "SELECT IS_FREE_LOCK('mine')") == (1,)


def test_whom_an_operator_cancels_is_who_asked(site: Site) -> None:
    """The input of the field: a job notes its session's number, and is cancelled by it."""
    site.start(max_size=2)
    numbers: list[int] = []
    hit: list[str] = []

    def job() -> None:
        from django.db import DatabaseError

        numbers.append(query(site.session_sql)[0])
        gevent.sleep(0.05)
        try:
            query(site.sleep_sql(60))
            killed = site.dialect == "mysql"  # KILL QUERY ends a SLEEP() early, without an error
        except DatabaseError:
            killed = True
        hit.append("job" if killed else "nobody")

    def stranger() -> None:
        from django.db import DatabaseError

        for _ in range(10):
            try:
                query(site.sleep_sql(0.05))
            except DatabaseError:
                hit.append("stranger")

    def cancel() -> None:
        eventually(lambda: len(numbers) == 1, "the number is known")
        long = site.sleep_sql(60)
        eventually(lambda: any(long in running for _, _, running in site.server.activity(site.database)), "it sleeps")
        verb = "SELECT pg_cancel_backend({})" if site.dialect == "postgres" else "KILL QUERY {}"
        with suppress(TypeError):  # KILL has no rows
            site.server.execute(verb.format(numbers[0]))

    gevent.joinall([request(job), request(stranger), request(stranger), gevent.spawn(cancel)], raise_error=True)
    assert hit == ["job"]


@pytest.mark.parametrize("spelling", ["t", "yes", "on", "TRUE "])
def test_a_local_setting_in_any_spelling_ends_with_its_transaction(postgres_site: Site, spelling: str) -> None:
    postgres_site.start(max_size=2)

    def work() -> object:
        from django.db import transaction

        with transaction.atomic():
            query("SELECT set_config('app.tenant', 'red', %s)", [spelling])
        return query("SELECT current_setting('app.tenant', true)")[0]

    assert view(work) in (None, "")
