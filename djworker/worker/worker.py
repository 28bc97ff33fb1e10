"""A worker: accepts within its permit, serves each connection in a greenlet, beats, drains, recycles. Knows no Django."""

from __future__ import annotations

import _socket
import logging
import os
import signal
import time
from array import array
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent import getcurrent
from gevent.event import Event

from djworker import log, process
from djworker.deadlines import found_by
from djworker.http.bulk import BulkWork
from djworker.http.current import current
from djworker.http.forked import forsake
from djworker.http.forwarded import NOTHING_DECLARED, Declared
from djworker.http.server import Server
from djworker.ipc import messages
from djworker.ipc.contract import ORPHAN_GRACE
from djworker.ipc.in_flight import Records
from djworker.ipc.scoreboard import Gauge, Phase
from djworker.log.access import access_logger
from djworker.units import NANOSECONDS
from djworker.worker.acceptor import Acceptor
from djworker.worker.answers import Answers, Nothing
from djworker.worker.recycling import Recycling
from djworker.worker.stacks import all_stacks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from djworker.conf.table import Config
    from djworker.ipc.channel import Channel
    from djworker.ipc.scoreboard import Row
    from djworker.worker.balance import Share
    from djworker.worker.metrics import WorkerMetrics

logger = logging.getLogger("djworker.worker")

#: How often the hub shows that it turns, and deadlines of connections are looked at, seconds.
BEAT_INTERVAL: Final = 0.5
MEMORY_INTERVAL: Final = 1.0
#: Seconds between two looks at the memory that is shared in parts; one takes a millisecond for each hundred MiB.
PSS_INTERVAL: Final = 10.0
#: A TERM that went to the whole process group (systemd's KillMode=control-group) is a stop: the arbiter's order to retire
#: comes within this time, and asking for a replacement would have one forked for nothing.
GROUP_TERM: Final = 0.25
_DRAIN_POLL: Final = 0.02


class Worker:
    """[worker] One process's service."""

    def __init__(  # noqa: PLR0913, PLR0917 - the composition root hands everything over at once
        self,
        app: Callable[..., Any],
        config: Config,
        channel: Channel,
        row: Row,
        listeners: Sequence[int],
        notify: Callable[..., None],
        generation: int,
        slot: int,
        pools: Callable[[], Mapping[Gauge, int]] = dict,
        retire_pools: Callable[[], object] = dict,
        share: Share | None = None,
        declared: Declared = NOTHING_DECLARED,
        insight: Any = None,
    ) -> None:
        """pools: called at each beat; looks after the database pools, and returns their gauges.

        retire_pools: called when the worker begins to drain; gives back connections that its last requests do not need.
        share: what this worker and the others know of each other, for new connections.
        declared: what the project's settings say of proxies.
        insight: ``djworker.db.insight``: what requests do with the database, for an operator who asks.
        """
        self.config = config
        self._channel = channel
        self._row = row
        self._who = {"slot": slot, "generation": generation, "pid": os.getpid()}
        self._notify = notify
        self._pools = pools
        self._retire_pools = retire_pools
        sockets = [_listening_socket(fd) for fd in listeners]
        address = sockets[0].getsockname() if sockets else ("127.0.0.1", 0)
        self.server = Server(app, config, server_address=address, access=_access(config), declared=declared)
        self._acceptor = Acceptor(self.server, sockets, share=share if config.workers > 1 else None)
        if config.access_log:
            self.server.records = Records(row.fileno())
        insight = insight or Nothing()
        self.server.let_go = insight.let_go
        self._answers = Answers(channel, row, self.server, slot, insight, self._obey)
        self._done = Event()
        self._retiring = False
        self._recycle_asked = False
        self._recycling = Recycling(config, process.pss_bytes() or process.resident_bytes(), time.monotonic())
        self._memory_due = self._pss_due = 0.0
        self._beat_due = time.monotonic()
        self._metrics: WorkerMetrics | None = None
        self._line: Any = None
        self._signals: list[Any] = []

    def measure(self, metrics: WorkerMetrics) -> None:
        """Tell the status process of this worker."""
        self._metrics = metrics

    def count_stall(self, seconds: float | None) -> None:
        """Count a stall of the hub, which has just been found (None), or is over. The first is the native thread's word."""
        if self._metrics is not None:
            self._metrics.count_stall(seconds)

    def run(self) -> int:
        """Serve until retired; the exit code."""
        self._row[Gauge.PID] = os.getpid()
        BulkWork.serving = self.server.bulk
        found_by(current)
        self._beat()
        if self._metrics is not None:
            self._metrics.start()
        gevent.spawn(self._keep_house)
        self._notify("worker_started", **self._who)
        hub = gevent.get_hub()
        self._line = hub.loop.io(self._channel.fileno(), 1)
        self._line.start(self._read_channel)
        self._answers.start()
        self._signals = self._install_signals()
        self._acceptor.start()
        self._row[Gauge.PHASE] = Phase.READY
        self._channel.send(messages.WorkerReady())
        self._warn_of_too_little_memory()
        gevent.spawn(self._notify, "worker_ready", **self._who)
        self._done.wait()
        if self._metrics is not None:
            self._metrics.beat()
        self._notify("worker_exiting", limit=ORPHAN_GRACE, **self._who)
        self._line.close()
        return 0

    def _install_signals(self) -> list[Any]:
        return [
            gevent.signal_handler(signal.SIGTERM, gevent.spawn_later, GROUP_TERM, self._want_replacement, "SIGTERM"),
            gevent.signal_handler(signal.SIGUSR1, log.reopen),
            gevent.signal_handler(signal.SIGUSR2, self._dump_stacks),
        ]

    def forsake(self) -> None:
        """[a child that a fork made] Let go of all that this worker talks through. See ``djworker.mold.patches.forks``."""
        for handler in self._signals:
            handler.cancel()  # libev has one list of them for all its loops
        self._acceptor.forsake()
        if self._metrics is not None:
            self._metrics.forsake()
        forsake(self.server, getcurrent())
        self._channel.close()

    # -- house keeping ------------------------------------------------------------------------------------------------

    def _keep_house(self) -> None:
        while True:
            gevent.sleep(BEAT_INTERVAL)
            try:
                self._beat()
                self.server.sweep(time.monotonic())
                self._answers.endings.sweep(time.monotonic())
                self._answers.endings.note_phases(time.monotonic())
                self._ask_for_recycling()
                self._look_after_pools()
                if self._metrics is not None:
                    self._metrics.beat()
            except Exception:  # noqa: BLE001 - without a beat the worker would be killed for a failed gauge
                log.event(
                    logger, logging.ERROR, "housekeeping_failed", "a worker's house keeping failed", exc_info=True
                )

    def _beat(self) -> None:
        now = time.monotonic()
        row, server = self._row, self.server
        row[Gauge.LATE] = max(0, int((now - self._beat_due) * NANOSECONDS))
        self._beat_due = now + BEAT_INTERVAL
        row[Gauge.BEAT] = time.monotonic_ns()
        row[Gauge.CPU] = time.process_time_ns()
        row[Gauge.QUEUED] = server.queued
        row[Gauge.RUNNING] = server.running
        self._acceptor.tell()
        row[Gauge.REQUESTS] = server.total
        row[Gauge.ERRORS] = server.failed
        row.latencies[:] = memoryview(array("q", server.latencies))
        row[Gauge.OPEN] = server.open
        row[Gauge.IDLE] = server.idle
        oldest = server.in_flight()[:1] if server.running else []
        row[Gauge.OLDEST] = time.monotonic_ns() - int(oldest[0].age * NANOSECONDS) if oldest else 0
        if now >= self._memory_due:
            self._memory_due = now + MEMORY_INTERVAL
            resident = process.resident_bytes()
            row[Gauge.RSS] = resident >> 10
            self._recycling.weigh(resident)
        if now >= self._pss_due:
            self._pss_due = now + PSS_INTERVAL
            row[Gauge.PSS] = process.pss_bytes() >> 10

    def _look_after_pools(self) -> None:
        for gauge, value in self._pools().items():
            self._row[gauge] = value

    def _ask_for_recycling(self) -> None:
        reason = self._recycling.reason(self.server.total, time.monotonic())
        if reason is not None:
            self._want_replacement(reason)

    def _warn_of_too_little_memory(self) -> None:
        if self._recycling.pointless:
            limit, fresh = self._recycling.max_memory, self._recycling.fresh_memory
            text = f"max_memory ({limit}) is less than a fresh worker has ({fresh} bytes): it is ignored"
            log.event(logger, logging.WARNING, "max_memory_ignored", text, **self._who, limit=limit, fresh=fresh)

    def _want_replacement(self, reason: str) -> None:
        """Ask once; the arbiter retires us when another is ready and proven."""
        if not (self._recycle_asked or self._retiring):
            self._recycle_asked = True
            self._channel.send(messages.RecycleWanted(reason))

    def _dump_stacks(self) -> None:
        log.event(
            logger, logging.WARNING, "stacks", "stacks of all greenlets, as asked", **self._who, stack=all_stacks()
        )

    # -- orders -------------------------------------------------------------------------------------------------------

    def _read_channel(self) -> None:
        """[hub] Must not wait."""
        received = self._channel.receive()
        for message in received.messages:
            self._obey(message)
        if received.eof:
            self._line.stop()  # EOF would be readable for ever
            self._retire(ORPHAN_GRACE, False)

    def _obey(self, message: messages.Message) -> None:
        """[hub] Must not wait."""
        match message:
            case messages.Retire(grace, empty_backlog):
                self._retire(grace, empty_backlog)
            case messages.ReopenLogs():
                log.reopen()
            case messages.SetLogLevel(level):
                log.configure(level, self.config.log_format, "worker")
            case messages.WorkerAsked():
                self._answers.answer(message)

    def _retire(self, grace: float, empty_backlog: bool) -> None:  # noqa: FBT001 - the message's own fields
        gevent.spawn(self._drain, grace, empty_backlog)

    def _drain(self, grace: float, empty_backlog: bool) -> None:  # noqa: FBT001 - the message's own fields
        deadline = time.monotonic() + grace
        if not self._retiring:
            self._retiring = True
            self._retire_pools()
            self._row[Gauge.PHASE] = Phase.DRAINING
            self.server.draining = True  # those that still come in from the backlog are told not to stay
            gevent.spawn(self._notify, "worker_draining", **self._who)
            if empty_backlog and grace:
                self._acceptor.empty_backlog(deadline)
            self._acceptor.close()
            self._channel.send(messages.ListenersClosed())
            gevent.sleep(0)  # a connection that was accepted in this very turn of the hub is counted, too
            self.server.drain()
        while self.server.open and time.monotonic() < deadline:
            gevent.sleep(_DRAIN_POLL)
        self._log_what_is_cut()
        self._done.set()

    def _log_what_is_cut(self) -> None:
        self.server.report_lost("cut at the end of the worker's grace")
        for item in self.server.in_flight():
            if item.url:
                text = f"cut {item.method} {item.url} after {item.age:.1f} s"
                fields = {"method": item.method, "url": item.url, "age": round(item.age, 3), "peer": item.peer}
                fields["request_id"] = item.request_id
                log.event(logger, logging.WARNING, "request_cut", text, **fields)


def _listening_socket(fd: int) -> _socket.socket:
    sock = _socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def _access(config: Config) -> Callable[[Any], None] | None:
    """Nothing where it is not read: neither by our file, nor a handler that the project has put on the logger."""
    wanted = config.access_log or logging.getLogger("djworker.access").handlers
    return access_logger(config.access_log_format) if wanted else None
