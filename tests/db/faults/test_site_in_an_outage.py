"""What visitors of a site see while its database server is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.db.faults.test_worker_ends import VIEWS
from tests.db.operator import Operator
from tests.db.proxy import TCPProxy
from tests.db.servers import DatabaseServer
from tests.processes.control import ask, ctl
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


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_a_failover_behind_a_pause_costs_no_request(
    request: pytest.FixtureRequest,
    server: Server,
    project: Project,
    proxy: Callable[[DatabaseServer], TCPProxy],
    kind: str,
) -> None:
    """The database is paused, its name moves to another server while the first one ends, and requests go on there."""
    operator: Operator = request.getfixturevalue(f"{kind}_operator")
    promoted: DatabaseServer = request.getfixturevalue(kind)
    for one in (operator.server, promoted):
        one.create_database("moving")
    name = proxy(operator.server)
    url = operator.server.url("moving", port=name.port)
    project.append(URLS, VIEWS)
    server.start(workers=2, environ={"DATABASE_URL": url})
    with server.load(path="/two", clients=6) as load:
        load.wait_for_answers(30)
        paused = ctl(server, "pause", "default", "--timeout", "60")
        assert paused.code == 0, paused
        eventually(lambda: not any(pool["size"] for pool in ask(server, "pool")["pools"]), "no session is left")
        operator.stop("fast")
        name.aim(promoted.host, promoted.port)
        resumed = ctl(server, "resume", "default")
        assert resumed.code == 0, resumed
        load.wait_for_answers(30)
    operator.start()
    for one in (operator.server, promoted):
        one.drop_database("moving")
    load.assert_nothing_lost()
    assert set(load.statuses) == {200}
    assert not server.events("pool_outage")
