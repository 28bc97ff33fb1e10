"""What visitors of a site see while its database server is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.db.faults.test_worker_ends import VIEWS
from tests.db.operator import Operator
from tests.processes.events import eventually
from tests.processes.project import URLS, Project
from tests.processes.server import Server


@pytest.fixture(params=["postgres", "mariadb"])
def operator(request: pytest.FixtureRequest) -> Iterator[Operator]:
    """Of a server of either kind, with a database for the site."""
    found: Operator = request.getfixturevalue(f"{request.param}_operator")
    found.server.create_database("site")
    yield found
    found.server.drop_database("site")


def test_pages_fail_at_once_and_work_again(server: Server, project: Project, operator: Operator) -> None:
    """Nobody waits for the pool's time-out, pages without a database go on, and no worker dies of it."""
    server.tracebacks_expected = True
    project.append(URLS, VIEWS)
    project.settings(POOL={"timeout": 300})
    server.start(workers=1, environ={"DATABASE_URL": operator.server.url("site")})
    with server.load(path="/two", clients=6) as load:
        load.wait_for_answers(30)
        assert set(load.statuses) == {200}
        operator.stop("immediate")
        server.wait_for("pool_outage")
        eventually(lambda: load.statuses[500] >= 30, "pages that fail")
        assert server.get("/debug/pid").status == 200
        operator.start()
        server.wait_for("pool_recovered")
        good = load.statuses[200]
        eventually(lambda: load.statuses[200] >= good + 30, "pages that work")
    assert not load.lost
    assert not load.refused
    assert set(load.statuses) == {200, 500}
    assert not server.events("worker_gone")
    [outage], [_] = server.events("pool_outage"), server.events("pool_recovered")
    assert "refuses us" not in outage["message"]
