"""Django's options of `DATABASES` that keep their sense under a lease."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.db.lease.site import Site, at_rest, eventually, fill, held, view


@contextmanager
def database(**options: Any) -> Iterator[None]:
    """Further options of the default alias, from now to the end of the block."""
    from django.db import connection, connections

    known = connections.settings["default"]
    before = dict(known)
    connection.close()
    known.update(options)
    try:
        yield
    finally:
        connection.close()
        known.clear()
        known.update(before)


def test_without_autocommit_a_request_commits_itself(site: Site) -> None:
    item = site.start()

    def work(*, commit: bool) -> None:
        from django.db import transaction

        assert not transaction.get_autocommit()
        item.objects.create(name=f"{commit}")
        assert held()
        if commit:
            transaction.commit()
        assert item.objects.count() == 1
        assert held(), "to the end of the request"

    with database(AUTOCOMMIT=False):
        view(lambda: work(commit=False))
        eventually(at_rest, "what was not committed is rolled back, and the connection is back")
        view(lambda: work(commit=True))
    assert view(lambda: [found.name for found in item.objects.all()]) == ["True"]


def test_atomic_requests_hold_to_the_end_of_the_view(site: Site) -> None:
    item = site.start()

    def page(_request: object, *, fails: bool) -> None:
        assert not held()
        item.objects.create(name=f"{fails}")
        assert held()
        if fails:
            raise ValueError("no such luck")

    def work(*, fails: bool) -> None:
        from django.core.handlers.base import BaseHandler

        BaseHandler().make_view_atomic(page)(None, fails=fails)
        assert held() is not site.transaction_lease

    with database(ATOMIC_REQUESTS=True):
        view(lambda: work(fails=False))
        with pytest.raises(ValueError, match="no such luck"):
            view(lambda: work(fails=True))
    assert view(lambda: [found.name for found in item.objects.all()]) == ["False"]


@pytest.mark.parametrize("disabled", [False, True])
def test_server_side_cursors_can_be_switched_off(postgres_site: Site, disabled: bool) -> None:  # noqa: FBT001
    item = postgres_site.start()
    fill(item, 3)

    def work() -> list[str]:
        rows = iter(item.objects.order_by("name").iterator(chunk_size=1))
        first = next(rows)
        assert held() is not disabled
        return [first.name, *(row.name for row in rows)]

    with database(DISABLE_SERVER_SIDE_CURSORS=disabled):
        assert view(work) == ["0", "1", "2"]
    eventually(at_rest, "the cursor is closed")
