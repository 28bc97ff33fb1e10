"""Every verb in every situation: each gets an answer soon, which says what is known and what is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from djworker.control.client import ControlConnection, RefusedError
from djworker.control.verbs import VERBS
from tests.db.fixtures import postgres, postgres_db
from tests.db.servers import PostgresServer
from tests.processes.control import ask, place_of
from tests.processes.events import eventually
from tests.processes.project import URLS
from tests.processes.server import Server
from tests.processes.test_control_requests import drilled

__all__ = ["postgres", "postgres_db"]

#: Seconds. What is promised is 2; a machine that runs other tests beside this one is late itself.
BOUND = 6.0
#: What each verb is asked with. None of it changes how the tree is to be afterwards, but for `recycle` and `reload`.
WORDS: dict[str, dict[str, Any]] = {
    "hello": {},
    "status": {},
    "history": {},
    "requests": {},
    "trace": {},
    "pool": {},
    "pause": {"alias": "default", "timeout": 1},
    "resume": {"alias": "default"},
    "kill": {"request": "no-such-request"},
    "log-level": {"level": "info"},
    "scale": {"workers": 2},
    "recycle": {"slot": 0},
    "reload": {},
}
#: Those that ask the workers, and say of each whether it has answered.
OF_WORKERS = ("requests", "trace", "pool")


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Server]:
    """One tree for all situations: each is over before the next begins."""
    with drilled(template, tmp_path_factory.mktemp("situations"), postgres, workers=2) as server:
        yield server


@contextmanager
def healthy(_server: Server) -> Iterator[None]:
    yield


@contextmanager
def blocked(server: Server) -> Iterator[None]:
    """One worker computes, and its hub does nothing else."""
    with server.held("/spins/") as [blocking]:
        eventually(lambda: [item for item in ask(server, "requests")["requests"] if item["blocks_hub"]], "it blocks")
        yield
    assert blocking.answer().status == 200, "nothing that was asked has cost the request"


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    with server.suspended(server.ready()[0]):
        yield
    eventually(lambda: all(worker["answered"] for worker in ask(server, "requests")["workers"]), "it answers again")


@contextmanager
def rollout(server: Server) -> Iterator[None]:
    """The new generation loads for as long as the file lasts."""
    gate = server.scratch / "gate"
    gate.touch()
    server.project.append(URLS, f"import os, time\nwhile os.path.exists({str(gate)!r}):\n    time.sleep(0.02)\n")
    mark = server.hup()
    server.wait_for("mold_booting", since=mark)
    try:
        yield
    finally:
        gate.unlink()
    server.wait_for("reload_done", since=mark)


@contextmanager
def broken(server: Server) -> Iterator[None]:
    """The code on disk cannot be loaded, and a reload has been refused for it."""
    path = server.project.folder / URLS
    good = path.read_text()
    path.write_text(good + "\nraise RuntimeError('broken on disk')\n")
    server.tracebacks_expected = True
    try:
        yield
    finally:
        path.write_text(good)


SITUATIONS = (healthy, blocked, stopped, rollout, broken)


def answered(server: Server, verb: str) -> dict[str, Any]:
    """The answer's last line; a refusal is one, and has a reason."""
    began = time.monotonic()
    try:
        with ControlConnection(place_of(server).address, BOUND) as connection:
            last = dict(list(connection.ask(verb, WORDS[verb]))[-1].fields)
    except RefusedError as error:
        last = {"refused": error.fields["reason"]}
        assert last["refused"], verb
    assert time.monotonic() - began < BOUND, verb
    return last


def test_no_verb_is_left_out() -> None:
    """``top`` asks with those that are here."""
    assert {*WORDS, "stop"} == {name for name, verb in VERBS.items() if not verb.local}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_every_verb_is_answered_soon(shared: Server, situation: Callable[[Server], Any]) -> None:
    """`requests`, `trace` and `pool` say of each worker whether it has answered, and if not, why."""
    mark = shared.log.mark()
    with situation(shared), ThreadPoolExecutor(len(WORDS)) as clients:
        said = dict(zip(WORDS, clients.map(lambda verb: answered(shared, verb), WORDS), strict=True))
    for verb in OF_WORKERS:
        assert all(worker["answered"] or worker["note"] for worker in said[verb]["workers"]), said[verb]
    assert said["scale"]["workers"] == 2
    eventually(
        lambda: shared.events("reload_done", since=mark) or shared.events("reload_failed", since=mark), "it ends"
    )
    eventually(lambda: len(shared.ready()) == 2, "both serve")
    assert shared.get("/short/").status == 200


def stop(connection: ControlConnection) -> str:
    """Ask for it; what the server says."""
    [said] = [reply.fields["message"] for reply in connection.ask("stop", {}) if reply.kind == "result"]
    return str(said)


def test_a_stop_is_answered_while_a_worker_is_stopped(make_server: Callable[[], Server]) -> None:
    """And carried out, once that worker goes on. Whoever asks again hears that it is under way."""
    server = make_server()
    server.start(workers=1, timeout=60, probe="off", graceful_timeout=30)
    with server.suspended(server.worker()), ControlConnection(place_of(server).address, BOUND) as connection:
        said, again = (stop(connection) for _ in range(2))
    assert said.startswith("the server stops; ")
    assert again.startswith("the server is stopping already; ")
    assert server.wait() == 0
