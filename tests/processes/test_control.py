"""The control socket on real trees: who is answered, with what, and what hostile clients cannot do."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from djworker.control import client as control_client
from djworker.control.client import ControlConnection
from djworker.control.verbs import VERBS
from tests.processes import procfs
from tests.processes.control import Ended, ask, clients_of, ctl, place_of, run
from tests.processes.events import eventually
from tests.processes.project import SETTINGS, VIEWS, copy_template
from tests.processes.server import MANAGE, Server

#: As most projects start it.
PROGRAM = MANAGE


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One tree for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("control")
    server = Server(copy_template(template, folder / "shop"), folder)
    server.start(workers=2)
    yield server
    server.close()


def connect(server: Server) -> socket.socket:
    """A client that says what it likes."""
    return control_client.connect(place_of(server).address, 20)


@contextmanager
def nothing_left(server: Server) -> Iterator[None]:
    """Afterwards the arbiter has no connection of a client any more."""
    yield
    eventually(lambda: clients_of(server) == 0, "no client is left")


def answer(client: socket.socket) -> bytes:
    """All that is said to it, up to the end of the connection."""
    heard = b""
    try:
        while data := client.recv(65_536):
            heard += data
    except ConnectionResetError:  # it had said what nobody has read
        pass
    return heard


# -- reading and steering ---------------------------------------------------------------------------------------------


def test_status_is_found_by_the_folder_of_the_project(shared: Server) -> None:
    told = ctl(shared, "status", "--json").json()
    assert told["version"] == 1
    assert told["server"]["pid"] == shared.pid
    assert told["server"]["directory"] == str(shared.project.folder)
    assert [worker["pid"] for worker in told["workers"]] == [shared.worker(0), shared.worker(1)]
    assert (told["generation"], told["workers_ready"], told["rolling"]) == (1, 2, False)
    text = ctl(shared, "status")
    assert text.code == 0
    assert f"pid {shared.pid}: serving" in text.out
    assert ctl(shared, "status", "--json", manage=True).json()["server"] == told["server"]


@pytest.mark.parametrize(
    "verb", [verb.name for verb in VERBS.values() if verb.reads and verb.name not in {"hello", "top"}]
)
def test_every_reading_verb_prints_json_as_its_schema_says(shared: Server, verb: str) -> None:
    """``hello`` is no command; ``top`` prints a line for each look."""
    told = ctl(shared, verb, "--json").json()
    assert (told["verb"], told["version"]) == (verb, 1)


def test_status_tells_rates_and_times_of_what_was_answered(shared: Server) -> None:
    before = sum(worker["requests"] for worker in ask(shared, "status")["workers"])
    for _ in range(40):
        shared.get("/debug/pid")

    def counted() -> dict[str, Any] | None:
        told = ask(shared, "status")
        complete = sum(worker["requests"] for worker in told["workers"]) >= before + 40
        return told if complete and told["recent"]["requests_per_second"] else None

    told = eventually(counted, "the requests are counted")
    assert 0.0 < told["recent"]["p50"] <= told["recent"]["p99"] < 60.0
    assert all(worker["pss"] > 10 << 20 and worker["cpu_seconds"] > 0.0 for worker in told["workers"])


def test_the_last_hour_survives_a_new_program(make_server: Callable[[], Server]) -> None:
    server = make_server().start(workers=1)
    eventually(lambda: ask(server, "history")["samples"]["at"], "a sample")
    server.reload()
    told = ask(server, "history")
    assert [(reload["generation"], reload["ok"]) for reload in told["reloads"]] == [(2, True)]
    [memory, *_] = told["samples"]["memory"]
    assert memory > 10 << 20
    text = ctl(server, "history").out
    assert "p99 ms" in text
    assert "reload: generation 2 serves" in text
    assert ask(server, "status")["restarts"] == {"reload": 1}
    mark = server.send(signal.SIGUSR2)
    server.wait_for("arbiter_started", since=mark)
    again = ask(server, "history")
    assert again["samples"]["at"][: len(told["samples"]["at"])] == told["samples"]["at"]
    assert again["reloads"] == told["reloads"]
    assert ask(server, "status")["restarts"] == {"reload": 1}
    late = told["samples"]["at"][-1]
    assert late not in ask(server, "history", since=late)["samples"]["at"]


def test_steering_verbs_do_what_they_say(make_server: Callable[[], Server]) -> None:
    server = make_server().start(workers=1)
    before = server.worker(0)
    mark = server.log.mark()
    assert ctl(server, "recycle", "0").code == 0
    server.wait_for("recycle_wanted", since=mark, slot=0, reason="asked for")
    assert server.wait_for("worker_ready", since=mark)["pid"] != before
    assert ctl(server, "scale", "2").code == 0
    assert server.wait_for("scaled", since=mark)["workers"] == 2
    assert ctl(server, "log-level", "debug").code == 0
    assert server.wait_for("log_level", since=mark)["log_level"] == "debug"
    assert ctl(server, "status", "--json").json()["log_level"] == "debug"
    assert ctl(server, "reload", "--wait").code == 0
    assert ctl(server, "status", "--json").json()["log_level"] == "info"
    assert ctl(server, "stop").code == 0
    assert server.wait() == 0
    gone = ctl(server, "status")
    assert gone.code == 4, gone
    assert "no server of this project runs" in gone.err


@pytest.mark.parametrize(
    "words, says",
    [
        (["scale", "0"], "'0': give a whole number from 1 to 1024"),
        (["scale"], "N"),
        (["fly"], "invalid choice: 'fly'"),
        (["log-level", "loud"], "one of debug, info, warning, error, critical"),
        (["reload", "--timeout", "nan"], "'nan'"),
        ([], "VERB"),
    ],
)
def test_wrong_words_are_a_matter_of_usage(shared: Server, words: list[str], says: str) -> None:
    ended = ctl(shared, *words)
    assert ended.code == 2
    assert says in ended.err


def test_a_slot_that_does_not_exist_is_refused(shared: Server) -> None:
    ended = ctl(shared, "recycle", "99")
    assert ended.code == 1
    assert ended.err == "no worker is ready in slot 99; there are: 0, 1\n"


def test_two_servers_of_a_project_are_told_apart(shared: Server, scratch: Path) -> None:
    other = Server(shared.project, scratch)
    other.start(workers=1)
    try:
        ended = ctl(shared, "status")
        assert ended.code == 2, ended
        assert f"{shared.pid}  " in ended.err
        assert f"{other.pid}  " in ended.err
        for server in (shared, other):
            told = ctl(shared, "status", "--json", "--instance", str(server.pid)).json()
            assert told["server"]["pid"] == server.pid
    finally:
        other.close()
    assert ctl(shared, "status").code == 0


def test_elsewhere_the_servers_that_run_are_listed(shared: Server, scratch: Path) -> None:
    ended = run(scratch, "status")
    assert ended.code == 4, ended
    assert f"{shared.pid}  " in ended.err
    assert run(scratch, "status", "--instance", str(shared.pid)).code == 0
    gone = run(scratch, "status", "--instance", str(2**22 + 1))
    assert gone.code == 4
    assert "no server has the process id" in gone.err


def test_a_client_answers_while_the_code_on_disk_is_broken(shared: Server) -> None:
    try:
        shared.project.break_syntax(VIEWS)
        assert ctl(shared, "status", manage=True).code == 0
        shared.project.append(SETTINGS, "raise RuntimeError('no settings today')")
        assert ctl(shared, "status").code == 0
    finally:
        shared.project.restore()


def test_the_socket_is_where_the_option_says(make_server: Callable[[], Server], scratch: Path) -> None:
    server = make_server()
    path = scratch / "control.sock"
    server.leaves_nothing_at = [path]
    server.start(workers=1, control=str(path))
    assert ctl(server, "status", "--instance", str(path)).code == 0
    assert ctl(server, "status", environ={"DJWORKER_CONTROL": str(path)}).code == 0
    mark = server.send(signal.SIGUSR2)
    server.wait_for("arbiter_started", since=mark)
    assert ctl(server, "status", "--instance", str(path)).code == 0


def test_without_a_socket_the_server_is_not_found(make_server: Callable[[], Server], scratch: Path) -> None:
    server = make_server().start(workers=1, control="off")
    assert ctl(server, "status").code == 4
    server.stop()
    folder = scratch / "missing"
    second = make_server().start(workers=1, control=str(folder / "x.sock"))  # the site is up all the same
    failed = second.wait_for("control_failed", level="error")
    assert f"control = {folder}/x.sock" in failed["message"]
    assert "the directory does not exist" in failed["message"]
    assert second.get("/raw").status == 200


def test_a_new_program_keeps_the_socket(make_server: Callable[[], Server]) -> None:
    server = make_server().start(workers=1)
    address = place_of(server).address
    assert ctl(server, "log-level", "warning").code == 0
    mark = server.send(signal.SIGUSR2)
    server.wait_for("arbiter_started", since=mark)
    assert place_of(server).address == address
    assert ctl(server, "status", "--json").json()["log_level"] == "warning"
    assert ctl(server, "log-level", "info").code == 0
    assert server.wait_for("log_level", since=mark)


# -- hostile clients --------------------------------------------------------------------------------------------------

HOSTILE: dict[str, bytes] = {
    "says nothing": b"",
    "half a line": b'{"version": 1, "verb": "sta',
    "garbage": bytes(range(256)) * 8 + b"\n",
    "deep": b"[" * 10_000 + b"\n",
    "many requests": b'{"version": 1, "verb": "status"}\n' * 400,
    "unknown": b'{"version": 1, "verb": "fly", "arguments": {}}\n',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_two_hundred_hostile_clients_are_not_noticed(shared: Server, what: str) -> None:
    """The service answers, and so does the control socket; nothing is left of them."""
    with nothing_left(shared):
        clients = [connect(shared) for _ in range(200)]
        for client in clients:
            try:
                client.sendall(HOSTILE[what])
            except OSError:
                continue  # it was turned away already
        assert shared.get("/raw").status == 200
        ended = ctl(shared, "status", "--json")
        assert ended.json()["workers_ready"] == 2
        for client in clients:
            client.close()
    assert not shared.events("control_failed")
    assert ctl(shared, "status").code == 0


def test_ten_megabytes_without_an_end_are_refused(shared: Server) -> None:
    with nothing_left(shared), connect(shared) as client:
        client.settimeout(20)
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            client.sendall(b"x" * 10_000_000)
        assert b"a request of more than 16384 bytes" in answer(client)
    assert shared.get("/raw").status == 200


def test_a_client_that_reads_nothing_is_dropped(shared: Server) -> None:
    """What waits for it is bounded; requests that it goes on sending are not read."""
    with nothing_left(shared), connect(shared) as client:
        client.setblocking(False)
        request = b'{"version": 1, "verb": "status"}\n'
        sent = 0
        while True:
            try:
                sent += client.send(request * 100)
            except BlockingIOError:
                break
            except OSError:
                break
        assert ctl(shared, "status").code == 0
    assert procfs.status(shared.pid)


def test_a_silent_client_makes_room_for_one_that_asks(shared: Server) -> None:
    clients = [connect(shared) for _ in range(70)]
    with ControlConnection(place_of(shared).address) as asking:
        assert [reply.kind for reply in asking.ask("hello")] == ["result"]
    assert b"too many clients" in answer(clients[0])
    for client in clients:
        client.close()


def test_a_connection_may_ask_again_and_again(shared: Server) -> None:
    with ControlConnection(place_of(shared).address) as connection:
        for _ in range(5):
            assert [reply.fields["pid"] for reply in connection.ask("hello")] == [shared.pid]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused_with_a_reason(shared: Server) -> None:
    nobody = pwd.getpwnam("nobody")
    program = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); os.setuid(int(sys.argv[2]));"
        "s.connect(chr(0) + sys.argv[1]); print(s.recv(9999).decode())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, place_of(shared).address[1:], str(nobody.pw_uid)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert f"user {nobody.pw_uid} may not ask" in done.stdout, done
    assert ctl(shared, "status").code == 0


def test_a_stopped_arbiter_is_said_not_to_answer(make_server: Callable[[], Server]) -> None:
    server = make_server().start(workers=1)
    with server.suspended(server.pid):
        ended: Ended = ctl(server, "status")
    assert ended.code == 1
    assert "the server does not answer" in ended.err
