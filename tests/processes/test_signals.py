"""TTIN, TTOU, USR1, USR2, and all of them at once."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from tests.processes import procfs
from tests.processes.events import eventually
from tests.processes.project import URLS, VIEWS, copy_template
from tests.processes.server import Server
from tests.processes.test_boot import hook


def test_one_more_one_less(server: Server) -> None:
    server.start()
    with server.load(clients=4) as load:
        mark = server.send(signal.SIGTTIN)
        assert server.wait_for("scaled", since=mark)["workers"] == 3
        server.wait_for("worker_ready", since=mark)
        mark = server.send(signal.SIGTTOU)
        server.wait_for("worker_gone", since=mark, status=0)
        assert len(server.ready()) == 2
        mark = server.log.mark()
        for _ in range(3):  # standard signals do not queue: each is sent when the one before has been taken
            sent = server.send(signal.SIGTTOU)
            assert server.wait_for("scaled", since=sent)["workers"] == 1
        server.log.wait_until(lambda _: len(server.ready()) == 1)
        load.wait_for_answers()
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 1


def test_logs_are_reopened_after_rotation(server: Server, scratch: Path) -> None:
    log, rotated = scratch / "access.log", scratch / "access.log.1"
    server.start(access_log=log)
    assert server.get("/raw?before").status == 200
    eventually(lambda: "/raw?before" in log.read_text(), "the line")
    log.rename(rotated)
    mark = server.send(signal.SIGUSR1)
    server.wait_for("logs_reopened", since=mark)
    eventually(log.exists, "the new file")
    workers = set(server.ready())

    def everybody_writes_to_the_new_one() -> bool:
        for _ in range(4):
            server.get("/raw?after")
        opened = [procfs.descriptors(pid).values() for pid in workers]
        return all(str(log) in names and str(rotated) not in names for names in opened)

    eventually(everybody_writes_to_the_new_one, "all workers have the new file open")
    size = rotated.stat().st_size
    server.get("/raw?last")
    eventually(lambda: "/raw?last" in log.read_text(), "the line")
    assert rotated.stat().st_size == size
    assert set(server.ready()) == workers


def test_a_worker_tells_its_stacks(server: Server) -> None:
    server.start(workers=1)
    server.running("/debug/sleep?s=60")
    server.kill(server.worker(), signal.SIGUSR2)
    assert "views/debug.py" in server.wait_for("stacks")["stack"]
    server.interrupt()
    assert server.wait() == 0


# -- HUP before anybody is ready --------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["arbiter_started", "mold_booting", "mold_ready", "worker_spawned"])
def test_a_reload_during_the_first_start(server: Server, moment: str) -> None:
    server.launch(workers=1)
    server.wait_for(moment)
    mark = server.log.mark()
    for _ in range(3):  # standard signals do not queue: each is sent when the one before has been taken
        sent = server.hup()
        server.log.wait_until(lambda said: any(event["event"].startswith("reload_") for event in said), since=sent)
    server.wait_for("reload_done", since=mark)
    assert server.get("/raw").status == 200


def test_broken_code_during_the_first_start_ends_nothing(server: Server) -> None:
    """The first worker takes its time, so that the reload is asked for before anybody is ready, whatever the machine does."""
    server.project.append(
        URLS, hook("worker_started", "import os, gevent\n    while not os.path.exists('go'): gevent.sleep(0.02)")
    )
    server.launch(workers=1)
    server.wait_for("worker_spawned")
    server.project.break_syntax()
    mark = server.hup()
    server.wait_for("reload_queued", since=mark)
    server.project.write("go", "")
    server.wait_for("reload_failed", since=mark)
    assert server.events("worker_ready")
    assert server.version() == 1


def test_code_that_is_mended_during_the_first_start_serves(server: Server) -> None:
    server.project.append(VIEWS, "import time; time.sleep(3600)")
    server.launch(workers=1)
    first = server.wait_for("mold_booting")
    server.project.restore()
    mark = server.hup()
    server.wait_for("reload_queued", since=mark)
    server.kill(first["pid"])
    server.wait_for("worker_ready", since=mark)
    assert server.get("/raw").status == 200


# -- USR2 -------------------------------------------------------------------------------------------------------------


def take_over(server: Server) -> int:
    """USR2, and wait until the new program runs; the mark before."""
    mark = server.send(signal.SIGUSR2)
    server.wait_for("reexec", since=mark)
    assert server.wait_for("arbiter_started", since=mark)["pid"] == server.pid
    return mark


def test_the_arbiter_is_replaced_under_load(server: Server) -> None:
    pidfile = server.scratch / "pid"
    server.leaves_nothing_at.append(pidfile)
    server.start(pid=pidfile, bind=["127.0.0.1:0", f"unix:{server.scratch}/sock"])
    workers = server.ready()
    before = procfs.descriptors(server.pid)
    with server.load() as load:
        load.wait_for_answers()
        take_over(server)
        load.wait_for_answers()
        assert server.ready() == workers, "nobody was restarted"
        assert procfs.title(server.pid) == "djworker: arbiter [testproject]"
        mark = server.kill(workers[0])
        server.wait_for("worker_ready", since=mark)
        lost = len(load.lost)
        server.project.set_version(2)
        server.reload()
        load.wait_for_version(2)
        take_over(server)
        load.wait_for_answers()
    assert len(load.lost) == lost <= 4
    assert set(load.statuses) == {200}
    assert pidfile.read_text() == f"{server.pid}\n"
    eventually(lambda: len(procfs.descriptors(server.pid)) == len(before), f"as many descriptors as before: {before}")
    assert server.stop() == 0


def test_after_a_takeover_old_molds_leave_by_themselves(server: Server) -> None:
    """They leave when their channel closes: nobody else may hold a copy of it."""
    server.start(workers=1)
    take_over(server)
    mark = server.reload()
    eventually(lambda: len(server.tree()) == 3, "arbiter, one mold, one worker")
    assert not server.events("mold_killed", since=mark)


@pytest.mark.parametrize("moment", ["mold_booting", "mold_ready", "worker_spawned", "worker_ready", "worker_retired"])
def test_the_arbiter_is_replaced_at_any_moment_of_a_rollout(server: Server, moment: str) -> None:
    server.start(workers=1)
    with server.load(clients=2) as load:
        server.project.set_version(2)
        mark = server.hup()
        server.wait_for(moment, since=mark)
        take_over(server)
        server.wait_for("reload_done", since=mark)
        load.wait_for_version(2)
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 1


def test_the_arbiter_is_replaced_during_the_first_start(server: Server) -> None:
    """What was asked for meanwhile travels with it."""
    server.launch(workers=1)
    server.wait_for("mold_booting")
    mark = server.hup()
    server.wait_for("reload_queued", since=mark)
    take_over(server)
    server.wait_for("reload_done", since=mark)
    assert server.get("/raw").status == 200
    assert server.stop() == 0


def test_a_broken_program_is_not_taken(server: Server, template: Path, scratch: Path) -> None:
    own = copy_template(template, scratch / "own", own_djworker=True)
    server.project = own
    server.tracebacks_expected = True
    server.start()
    own.append("djworker/arbiter/fleet.py", "def broken(:")
    with server.load(clients=2) as load:
        mark = server.send(signal.SIGUSR2)
        server.wait_for("reexec_failed", since=mark)
        load.wait_for_answers()
        own.restore()
        own.set_version(2)
        server.reload()
        load.wait_for_version(2)
        take_over(server)
    load.assert_nothing_lost()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_a_takeover_is_not_lost(server: Server, number: signal.Signals) -> None:
    server.start()
    mark = server.send(signal.SIGUSR2)
    server.send(number)
    server.wait_for("reload_done" if number == signal.SIGHUP else "stopping", since=mark)
    if number != signal.SIGHUP:
        assert server.wait() == 0


# -- during a roll-out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment, workers", [("mold_booting", 2), ("worker_spawned", 3), ("worker_retired", 3)])
def test_one_more_during_a_rollout(server: Server, moment: str, workers: int) -> None:
    """Asked for before the new generation is there, it ends with it: a reload goes back to the settings' number."""
    server.start()
    with server.load(clients=2) as load:
        mark = server.hup()
        server.wait_for(moment, since=mark)
        server.send(signal.SIGUSR1)
        server.send(signal.SIGTTIN)
        server.wait_for("logs_reopened", since=mark)
        assert server.wait_for("scaled", since=mark)["workers"] == 3
        server.wait_for("reload_done", since=mark)
        server.log.wait_until(lambda _: len(server.ready()) == workers)
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 2


@pytest.mark.parametrize("moment", ["worker_spawned", "worker_retired"])
def test_one_less_during_a_rollout(server: Server, moment: str) -> None:
    server.start()
    with server.load(clients=2) as load:
        mark = server.hup()
        server.wait_for(moment, since=mark)
        server.send(signal.SIGTTOU)
        assert server.wait_for("scaled", since=mark)["workers"] == 1
        server.wait_for("reload_done", since=mark)
        server.log.wait_until(lambda _: len(server.ready()) == 1)
    load.assert_nothing_lost()
    assert server.fewest_ready(mark) == 1


# -- all at once ------------------------------------------------------------------------------------------------------


def test_a_storm_of_signals(server: Server) -> None:
    server.start()
    harmless = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR1, signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU]
    chance = random.Random(1)  # the same storm each time
    with server.load(clients=2) as load:
        mark = server.log.mark()
        for _ in range(1000):
            os.kill(server.pid, chance.choice(harmless))
        server.wait_for("reload_done", since=mark)
        # However many of them were folded into one: a reload brings the number of the settings back.
        eventually(lambda: not_busy(server), "no reload is under way")
        server.reload()
        server.log.wait_until(lambda _: len(server.ready()) == 2)
        load.wait_for_answers()
    load.assert_nothing_lost()


def not_busy(server: Server) -> bool:
    """Whether as many reloads have ended as have begun."""
    ended = len(server.events("reload_done")) + len(server.events("reload_failed"))
    return ended == len(server.events("reload_started"))


def test_signals_of_a_terminal_reach_only_the_arbiter(server: Server) -> None:
    """Ctrl-C and a hang-up go to the whole process group; molds and workers leave the decision to the arbiter."""
    server.start()
    (request,) = server.running("/debug/sleep?s=1")
    mark = server.log.mark()
    os.killpg(server.pid, signal.SIGHUP)
    server.wait_for("reload_done", since=mark)
    assert request.answer().status == 200
    assert not server.events("worker_gone", since=mark, status=lambda status: status != 0)
    server.project.append(VIEWS, "import time; time.sleep(600)")
    server.hup()
    newborn = server.wait_for("mold_booting", since=mark, count=2)["pid"]
    eventually(lambda: handles(newborn, signal.SIGUSR2), "it is deaf to them by now")
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait(timeout=10) == 0


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether it has a handler for the signal: see proc(5)."""
    return bool(int(procfs.status(pid).get("SigCgt", "0"), 16) >> (number - 1) & 1)


def test_term_to_the_whole_group_is_one_stop(server: Server) -> None:
    """systemd's KillMode=control-group, supervisor's stopasgroup: nobody is replaced, and what runs is answered."""
    server.start()
    requests = server.running("/debug/sleep?s=1", count=4)
    mark = server.log.mark()
    os.killpg(server.pid, signal.SIGTERM)
    assert [request.answer().status for request in requests] == [200] * 4
    assert server.wait(timeout=10) == 0
    assert not server.events("worker_spawned", since=mark)
    assert not server.events("worker_gone", since=mark, status=lambda status: status != 0)
    assert not [event for event in server.log.all(mark) if event.get("level") in ("error", "critical")]
