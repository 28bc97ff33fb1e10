"""``top`` on a real terminal, of a real server: what it shows, what keys do, and that it leaves the terminal as it found it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from djworker.control.schemas import SCHEMAS
from tests.processes.control import Ended, ctl
from tests.processes.events import eventually
from tests.processes.project import ROOT, copy_template
from tests.processes.server import Server
from tests.processes.terminal import Terminal
from tests.schema import complaints

WORDS = (sys.executable, "-m", "djworker.control", "top", "--interval", "0.5")


@pytest.fixture(scope="module")
def shared(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One tree for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("top")
    server = Server(copy_template(template, folder / "shop"), folder)
    server.start(workers=2, timeout=60)
    yield server
    server.close()


def top(server: Server, *words: str, size: tuple[int, int] = (80, 24)) -> Terminal:
    """``djworkerctl top`` in the project's folder."""
    return Terminal([*WORDS, *words], server.project.folder, size)


def column(lines: list[str], title: str) -> list[str]:
    """The cells of a column of numbers, whose right edge is that of its title or of the mark behind it."""
    [line] = [line for line in lines if title in line]
    rows = lines[lines.index(line) + 1 :]
    number = [word.strip("▌▲▼") for word in line.split()].index(title) - line.startswith("▌ ")
    return [row.split()[number] for row in rows[:2]]


def test_workers_requests_and_pools_fit_a_terminal_of_80_by_24(shared: Server) -> None:
    slow = shared.running("/debug/sleep?s=3", count=2)
    with top(shared) as terminal:
        shown = " running testproject.shop.v"  # phase and view, cut
        help_line = "q quit  1 workers  2 requests  3 pools  < > sort  r reverse  z zoom  space hold"
        lines = terminal.until(
            lambda lines: sum(shown in line for line in lines) == 2 and lines[-1] == help_line, "both requests"
        )
        assert sum(" GET /debug/sleep?s=3" in line for line in lines) == 2
        assert lines[0].startswith("testproject  serving  generation 1  workers 2/2  up ")
        assert "req/s" in lines[1]
        assert lines[2].startswith("generations 1 ready (2 workers)")
        assert {str(pid) for pid in shared.ready()} == set(column(lines, "PID"))
        terminal.type("q")
        assert terminal.wait() == 0
    assert [request.answer().status for request in slow] == [200, 200]


def test_keys_sort_choose_zoom_and_hold(shared: Server) -> None:
    pids = sorted(shared.ready())
    with top(shared) as terminal:
        terminal.shows("▌SLOT▲")
        terminal.type(">>")
        assert list(map(int, column(terminal.shows("PID▲"), "PID"))) == pids
        terminal.type("r")
        assert list(map(int, column(terminal.shows("PID▼"), "PID"))) == pids[::-1]
        terminal.type("\x1b[C\x1b[D")  # the cursor keys
        terminal.shows("PID▲")
        terminal.type("2")
        terminal.shows("▌AGE▼")
        terminal.type("z")
        terminal.until(lambda lines: "PID" not in "".join(lines), "only the requests")
        terminal.type("\r ")
        terminal.shows(" held ")
        terminal.type("q")
        assert terminal.wait() == 0


@pytest.mark.parametrize("end", ["\x03", "SIGTERM", "SIGHUP"])
def test_whatever_ends_it_leaves_the_terminal_as_it_was(shared: Server, end: str) -> None:
    with top(shared) as terminal:
        terminal.shows("SLOT")
        if end.startswith("SIG"):
            os.kill(terminal.process.pid, signal.Signals[end])
        else:
            terminal.type(end)
        assert terminal.wait() == 0


def test_a_shell_gets_the_terminal_while_it_is_paused(shared: Server) -> None:
    with Terminal(["bash", "--norc", "--noediting", "-i"], shared.project.folder) as terminal:
        terminal.type(f"{shlex.join(WORDS)}\n")
        terminal.shows("▌SLOT")
        terminal.type("\x1a")  # Ctrl-Z
        terminal.shows("Stopped")
        terminal.is_back()
        terminal.type("stty -a | tr '; ' '\\n' | grep -x -e echo -e icanon | tr '\\n' +; fg\n")
        eventually(lambda: terminal.raw.count(b"\x1b[?1049h") == 2, "it has the terminal again")
        terminal.type(">")
        terminal.shows("GEN▼")
        terminal.type("q")
        eventually(lambda: terminal.raw.count(b"\x1b[?1049l") == 2, "the shell has it again")
        terminal.type("exit $?\n")
        assert terminal.wait() == 0
        assert b"icanon+echo+" in terminal.raw


def test_the_size_of_the_window_is_followed(shared: Server) -> None:
    with top(shared, size=(40, 12)) as terminal:
        terminal.until(lambda lines: lines[-1].startswith("q quit") and "SLOT" in "".join(lines), "a small one")
        terminal.resize(120, 40)
        assert "testproject.settings" in terminal.until(lambda lines: lines[39:] and lines[39], "a large one")[0]
        terminal.resize(9, 3)
        terminal.until(lambda lines: lines[-1].startswith("q quit"), "a tiny one")
        terminal.type("q")
        assert terminal.wait() == 0


def test_a_blocked_and_a_stopped_worker_are_shown_as_such(shared: Server) -> None:
    """Its keys are obeyed meanwhile: what is slow to answer is asked in a thread."""
    with top(shared) as terminal:
        terminal.shows("q quit")  # its start takes longer than the request on a busy machine
        with shared.held("/drill/spins") as [blocking]:
            assert any("/drill/spins" in line for line in terminal.shows("blocks hub"))
            terminal.shows(" blocked ")
            terminal.type(">")
            terminal.shows("GEN▼")
        assert blocking.answer().status == 200
        pid = shared.worker(0)
        os.kill(pid, signal.SIGSTOP)
        try:
            terminal.shows(f"worker 0, pid {pid}: it does not answer: it is stopped (SIGSTOP)")
        finally:
            os.kill(pid, signal.SIGCONT)
        terminal.until(lambda lines: "blocked" not in "".join(lines), "it goes on")
        terminal.type("q")
        assert terminal.wait() == 0


def test_a_reload_a_stop_and_the_next_server_are_followed(make_server: Callable[[], Server]) -> None:
    first = make_server().start(workers=1)
    with top(first) as terminal:
        terminal.shows(f"pid {first.pid}")
        first.reload()
        terminal.shows("generation 2")
        terminal.shows("restarts reload 1")
        assert first.stop() == 0
        terminal.shows("does not answer: no server of this project runs")
        second = make_server().start(workers=1)
        terminal.shows(f"pid {second.pid}")
        terminal.shows("serving  generation 1  workers 1/1")
        second.send(signal.SIGUSR2)
        second.wait_for("arbiter_started", count=2)
        terminal.until(lambda lines: "serving" in lines[0], "it answers after a new program")
        terminal.type("q")
        assert terminal.wait() == 0


def test_without_a_terminal_tables_are_printed(shared: Server) -> None:
    ended = ctl(shared, "top", "--count", "2", "--interval", "0.5")
    assert ended.code == 0, ended
    assert ended.out.count("SLOT  GEN") == 2
    assert "\x1b" not in ended.out
    assert ctl(shared, "top", "--count", "1", manage=True).code == 0


def test_for_programs_top_prints_a_line_of_json_for_each_look(shared: Server) -> None:
    ended = ctl(shared, "top", "--json", "--count", "2", "--interval", "0.5")
    assert ended.code == 0, ended
    looks = [Ended(0, line, "").json() for line in ended.out.splitlines()]
    assert [look["trouble"] for look in looks] == ["", ""]
    for verb in ("status", "requests", "pool"):
        assert not list(complaints(SCHEMAS[verb], {"version": 1, "verb": verb, **looks[-1][verb]}))
    assert {worker["pid"] for worker in looks[-1]["status"]["workers"]} == set(shared.ready())


def test_without_the_extra_a_terminal_gets_plain_tables(shared: Server) -> None:
    """-S leaves out site-packages: the client needs the standard library only."""
    words = [sys.executable, "-S", "-m", "djworker.control", "top", "--interval", "0.5"]
    with Terminal(words, shared.project.folder, environ={"PYTHONPATH": str(ROOT)}) as terminal:
        lines = terminal.shows("no request in flight")
        assert lines[0].startswith("testproject  serving")
        assert {str(pid) for pid in shared.ready()} == set(column(lines, "PID"))
        terminal.type("\x03")
        assert terminal.wait() == 0


def test_where_no_server_runs_it_does_not_begin(tmp_path: Path) -> None:
    with Terminal(WORDS, tmp_path, environ={"PYTHONPATH": str(ROOT)}) as terminal:
        assert terminal.wait() == 4
        assert "no server of this project runs" in terminal.text().replace("\n", "")
