"""A child of a view has sessions of its own: nothing of it reaches its parent's, not even out of a transaction."""

from __future__ import annotations

import ast

import pytest

from tests.processes.server import Server


@pytest.fixture(params=["postgres", "mariadb"])
def running(request: pytest.FixtureRequest, server: Server) -> Server:
    """One worker, on each kind of database."""
    database, name = request.getfixturevalue(request.param), request.getfixturevalue(f"{request.param}_db")
    server.start(workers=1, environ={"DATABASE_URL": database.url(name)})
    return server


def test_a_child_forked_in_a_transaction_asks_in_a_session_of_its_own(running: Server) -> None:
    for _ in range(2):
        found = running.get("/fork/transaction").json()
        first, second, in_transaction, done = ast.literal_eval(found["child"])
        assert found["before"] == found["after"], "the parent's session is as it was"
        assert found["before"] not in {first, second}
        assert not in_transaction
        assert done == [], "what the parent does after its commit is not the child's to do"
        assert found["done"]
    found = running.get("/fork/leave-transaction").json()
    assert found["before"] == found["after"], "the child's way out of the transaction ends nobody's"
    assert running.get("/fork/transaction").status == 200
