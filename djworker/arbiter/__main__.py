"""``python -m djworker.arbiter``: what ``manage.py runworkers`` becomes, same pid."""

from __future__ import annotations

import logging
import os
import sys

from djworker import accounts, log, process
from djworker.arbiter import control_socket, summary
from djworker.arbiter.children import Children
from djworker.arbiter.events import Event, Started
from djworker.arbiter.fleet import Fleet
from djworker.arbiter.listeners import Listener, ListenError, close_all, open_listeners
from djworker.arbiter.logfiles import LogFileError, hand_over
from djworker.arbiter.loop import Loop, policy_of
from djworker.arbiter.pidfile import Pidfile, PidfileError
from djworker.arbiter.reexec import reexec
from djworker.arbiter.signal_queue import Signals
from djworker.arbiter.snapshot import Snapshot, SnapshotError
from djworker.arbiter.status import StatusService
from djworker.arbiter.systemd import Systemd
from djworker.conf import variables
from djworker.conf.address import Address
from djworker.ipc.contract import EXIT_CONFIG
from djworker.ipc.launch import Launch

logger = logging.getLogger("djworker.arbiter")


def main(arguments: list[str]) -> int:
    """Run the arbiter; its exit code."""
    process.open_standard_streams()
    if arguments == ["--rehearse"]:
        return _rehearse()
    launch = Launch.from_environ(os.environ)
    state = os.environ.pop(variables.ADOPT, None)
    log.configure(launch.config.log_level, launch.config.log_format, "arbiter")
    process.set_title(f"djworker: arbiter [{launch.config.proc_name or launch.proc_name}]")
    signals = Signals()
    if state is not None:
        return _adopt(Snapshot(state), launch, signals)
    return _start(launch, signals)


def _rehearse() -> int:
    """Whether this program could take over: it starts, and it reads the state."""
    try:
        Snapshot(os.environ[variables.ADOPT])
        Launch.from_environ(os.environ)
    except (SnapshotError, LookupError, ValueError) as error:
        print(f"djworker: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return EXIT_CONFIG
    return 0


def _start(launch: Launch, signals: Signals) -> int:
    config = launch.config
    account = accounts.service_account(config.user, config.group)
    pidfile = _pidfile(launch)
    listeners: list[Listener] = []
    status: StatusService | None = None
    try:
        addresses = [Address.parse(text) for text in config.bind]  # the sockets that systemd passed are among them
        listeners = open_listeners(addresses, config.backlog, config.socket_mode, account)
        status = StatusService.open(config) if config.status_bind else None
        hand_over(config.access_log, account)
        if pidfile is not None:
            pidfile.create()
    except (ListenError, LogFileError, PidfileError) as error:
        close_all([*listeners, *(status.listeners if status is not None else ())])
        for line in str(error).splitlines():
            log.event(logger, logging.CRITICAL, "not_started", line)
        return EXIT_CONFIG
    process.raise_descriptor_limit()  # three for each worker; the molds know what it was
    about = summary.of_start(launch)
    log.event(logger, logging.INFO, "arbiter_started", summary.sentence(about), pid=os.getpid(), **about)
    for listener in listeners:
        log.event(logger, logging.INFO, "listening", f"listening on {listener}", address=str(listener))
    for listener in status.listeners if status is not None else ():
        log.event(
            logger, logging.INFO, "status_listening", f"the status process listens on {listener}", address=str(listener)
        )
    children = Children(launch, listeners, process.become_subreaper(), status=status)
    if config.reload:
        children.start_reloader()
    loop = Loop(Fleet(policy_of(config)), children, config, Systemd(os.environ, os.getpid()), signals)
    control_socket.open_on(loop, None)
    return _run(loop, signals, pidfile, Started())


def _pidfile(launch: Launch) -> Pidfile | None:
    config = launch.config
    return Pidfile(config.pid, accounts.service_account(config.user, config.group)) if config.pid else None


def _adopt(snapshot: Snapshot, launch: Launch, signals: Signals) -> int:
    children = snapshot.children(launch, subreaper=process.become_subreaper())
    systemd = Systemd(os.environ, os.getpid())
    systemd.ready = snapshot.systemd_ready
    signals.note(snapshot.signals)
    loop = Loop(snapshot.fleet, children, snapshot.config, systemd, signals)
    loop.offered = snapshot.offered
    loop.deaths.waiting.extend(snapshot.deaths)
    snapshot.tell(loop)
    control_socket.open_on(loop, snapshot.control(launch))
    log.event(logger, logging.INFO, "arbiter_started", "the new program has taken over", pid=os.getpid())
    return _run(loop, signals, _pidfile(launch), None)


def _run(loop: Loop, signals: Signals, pidfile: Pidfile | None, first: Event | None) -> int:
    loop.reexec = reexec
    signals.install()
    try:
        loop.reap()  # those that died while the signals were blocked
        code = loop.run(first)
    finally:
        signals.block()
        signals.close()
        loop.close_control()
        loop.end_status()
        close_all(loop.children.listeners)
        if pidfile is not None:
            pidfile.remove()
    log.event(logger, logging.INFO, "stopped", f"stopped with exit code {code}", code=code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
