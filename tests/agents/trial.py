"""One agent on a running server: it is heard from each worker, after a crash, after a reload, and holds up no stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.agents.agent import Agent
from tests.agents.collector import Collector, ScoutCollector, listening
from tests.processes.events import eventually
from tests.processes.http import request
from tests.processes.server import Server

PROGRAM = ("-m", "djworker", "testproject.wsgi")


@contextmanager
def collecting(agent: Agent, folder: Path) -> Iterator[tuple[dict[str, str], Callable[[int], bool]]]:
    """The environment of a server, and a function that says whether the agent was heard from a process."""
    notes = folder / "notes"
    collector = ScoutCollector() if agent.kind == "scout" else Collector()
    with listening(collector):
        port = collector.server_address[1]
        assert isinstance(port, int)

        def heard(pid: int) -> bool:
            if agent.kind == "notes":
                return notes.exists() and f"PID: {pid}\n" in notes.read_text()
            return collector.has(f"worker-{pid}-")

        yield agent.environment(port, str(notes)), heard


def visit_all(server: Server, heard: Callable[[int], bool]) -> None:
    """Ask until each worker was heard."""

    def done() -> bool:
        assert request(server.address, "/visit").status == 200
        return all(map(heard, server.ready()))

    eventually(done, "the agent is heard from each worker")


def check_warning(server: Server, agent: Agent, preload: str) -> None:
    """Where workers cannot share, the log says why, and names the project's line."""
    told = server.events("not_shared")
    assert bool(told) == (preload == "auto" and not agent.shares), told
    for event in told:
        assert all("testproject/" in line for line in event["found"]), event["found"]


def run(server: Server, agent: Agent, preload: str, heard: Callable[[int], bool]) -> None:
    """Kill one worker, reload, stop; the server is started."""
    visit_all(server, heard)
    check_warning(server, agent, preload)
    mark = server.kill(server.worker())
    server.wait_for("worker_ready", since=mark)
    visit_all(server, heard)
    server.reload()
    visit_all(server, heard)
    assert server.stop() == 0
    assert not server.events("worker_killed")
    eventually(lambda: not server.tree(), "nothing is left")
