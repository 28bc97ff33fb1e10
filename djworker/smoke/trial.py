"""The course of a smoke test: boot, ask every worker, look for what was not given back, reload under requests, stop."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from djworker.control.client import RefusedError, UnreachableError
from djworker.smoke import kernel
from djworker.smoke.events import Event, cause, place
from djworker.smoke.report import Report
from djworker.smoke.server import TriedServer, eventually
from djworker.smoke.visits import Load, NotReachedError, Visit, Visitor

__all__ = ["Trial"]

#: Seconds for the workers to be ready, and for the reload; the server's own boot_timeout tells the reason before.
BOOT_WITHIN: Final = 180.0
#: Seconds for the end, when nothing runs any more.
STOP_WITHIN: Final = 10.0
#: Seconds after the last request for what it has borrowed to be given back.
BACK_WITHIN: Final = 2.0
#: Rounds of requests; the first one opens what is kept open for good. Requests of a round, for each worker and path.
ROUNDS: Final = 3
PER_ROUND: Final = 4
#: Seconds between two looks at the sizes of pools during the reload.
_LOOK_AT_BOUNDS: Final = 0.2
#: Processes that are named; the others are counted.
_NAMED: Final = 3

_NOT_BOOTED: Final = ("not_started", "config_error", "mold_failed", "mold_killed", "worker_boot_failed", "fork_failed")
_RELOADED: Final = ("reload_done", "reload_failed", "rollback")
_AMISS: Final = ("request_cut", "hub_blocked", "worker_killed", "hook_failed", "hook_hangs", "housekeeping_failed")
_HELD: Final = ("worker_killed", "mold_killed", "hook_hangs", "hook_failed")


class Trial:
    """[smoke] One run. accepts: whether a status is as it should be; *wanted* says the same in words."""

    def __init__(self, server: TriedServer, report: Report, accepts: Callable[[int], bool], wanted: str) -> None:
        self._server = server
        self._report = report
        self._accepts = accepts
        self._wanted = wanted
        self._visitor: Visitor
        self._workers: Mapping[int, dict[str, Any]] = {}

    def run(self) -> None:
        """Make every check that can be made; what is wrong is in the report."""
        try:
            if not self._boot():
                return
            self._ask_every_worker()
            if not self._report.problems:  # else the reload would say the same once more, and take its time for it
                self._reload()
        except (NotReachedError, UnreachableError, RefusedError) as error:
            self._report.fail("requests", f"a worker {error}" if isinstance(error, NotReachedError) else str(error))
        self._stop()

    # -- boot

    def _boot(self) -> bool:
        begin = time.monotonic()
        events = self._server.events
        events.wait(lambda: events.find("worker_ready", *_NOT_BOOTED), BOOT_WITHIN)
        if events.find("worker_ready"):
            eventually(lambda: bool(events.find(*_NOT_BOOTED)) or self._look_at_workers(), BOOT_WITHIN)
        if failed := events.find(*_NOT_BOOTED):
            self._report.fail("boot", _reason(failed[0]))
        elif not self._workers:
            self._report.fail("boot", self._silent_end())
        else:
            count = self._report.workers = len(self._workers)
            self._visitor = Visitor(self._server.port, self._host())
            self._report.done["boot"] = f"{count} workers ready after {time.monotonic() - begin:.1f} s"
        return "boot" in self._report.done

    def _look_at_workers(self) -> bool:
        if self._server.code is not None:
            return True
        self._workers = self._server.ready()
        return bool(self._workers)

    def _silent_end(self) -> str:
        if self._server.code is None:
            return f"the workers are not ready after {BOOT_WITHIN:g} s"
        self._server.events.wait(lambda: False, 1)  # the rest of what it has said
        text = self._server.events.text()
        last = cause(text) or next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
        return f"the server ended with exit code {self._server.code}: {last}"

    def _host(self) -> str:
        allowed = self._server.first("project_loaded").get("allowed_hosts", [])
        names = [str(host).lstrip(".") for host in allowed if host != "*"]
        return next(iter(names), "localhost")

    # -- requests, and what they leave behind

    def _ask_every_worker(self) -> None:
        leased, begun = self._leased(), self._children()
        counts: list[dict[int, dict[int, str]]] = []
        for _ in range(ROUNDS):
            self._judge("requests", self._visit_each(self._report.paths * PER_ROUND))
            counts.append(self._descriptors(counts[-1] if counts else {}))
            if "requests" in self._report.problems:
                break
        each = f"{len(counts) * PER_ROUND * len(self._report.paths)} from each worker"
        self._report.done["requests"] = f"{each}: {_counted(self._report.statuses)}"
        self._look_at_bounds()
        self._look_for_leases(leased)
        self._look_for_descriptors(counts)
        self._look_for_children(begun)
        self._report.done["leaks"] = "no connection, descriptor or child is left of the requests"
        self._look_at_events("requests", 0)

    def _visit_each(self, paths: Sequence[str]) -> list[Visit]:
        return self._visitor.get_from_each(list(self._workers), paths)

    def _judge(self, check: str, visits: Iterable[Visit]) -> None:
        for visit in visits:
            self._report.statuses[visit.status] += 1
            if visit.trouble:
                self._report.fail(check, f"GET {visit.path}: {visit.trouble}")
            elif not self._accepts(visit.status):
                self._report.fail(check, f"GET {visit.path}: {visit.status}, wanted {self._wanted}{self._why(visit)}")

    def _why(self, visit: Visit) -> str:
        if visit.status < 500:
            return " (its host is not in ALLOWED_HOSTS, or the view refuses it)" if visit.status == 400 else ""
        events = self._server.events
        events.wait(lambda: events.find("request_error", "request_failed") or cause(events.text()), 0.5)
        told = [event for event in events.find("request_error") if event.get("url") == visit.path]
        text = next((cause(str(event.get("traceback", ""))) for event in told), "") or cause(events.text())
        return f": {text}" if text else ""

    def _leased(self) -> Counter[tuple[int, str]]:
        return Counter({(row["pid"], row["alias"]): row["leased"] for row in self._pools()})

    def _pools(self) -> list[dict[str, Any]]:
        pools: list[dict[str, Any]] = self._server.ask("pool").get("pools", [])
        return pools

    def _look_at_bounds(self) -> None:
        rows = self._pools()
        for row in rows:
            if row["bound"] and row["size"] > row["bound"]:
                text = f"{row['size']} connections in the pool of {row['alias']!r}, which may have {row['bound']}"
                self._report.fail("pool", f"{self._name(row)}: {text}")
        aliases = sorted({f"{row['alias']} {row['size']} of {row['bound']}" for row in rows})
        self._report.done["pool"] = f"connections within bounds: {', '.join(aliases) or 'none is pooled'}"

    def _look_for_leases(self, before: Counter[tuple[int, str]]) -> None:
        if not eventually(lambda: not self._leased() - before, BACK_WITHIN):
            for row in self._pools():
                if (more := row["leased"] - before[row["pid"], row["alias"]]) > 0:
                    views = sorted({str(holder["who"] or holder["view"]) for holder in row["holders"]})
                    text = f"{more} connections of {row['alias']!r} were not given back after the requests"
                    held = f"; held by {', '.join(views)}" if views else ""
                    self._report.fail("leaks", f"{self._name(row)}: {text}{held}")

    def _descriptors(self, before: Mapping[int, Mapping[int, str]]) -> dict[int, dict[int, str]]:
        """What every worker has open, once it has closed what it was going to close."""

        def look() -> dict[int, dict[int, str]]:
            return {pid: kernel.opened(pid) for pid in self._workers}

        def is_back() -> bool:
            return bool(before) and all(len(found) <= len(before[pid]) for pid, found in look().items())

        eventually(is_back, BACK_WITHIN / 8)
        return look()

    def _look_for_descriptors(self, counts: Sequence[Mapping[int, Mapping[int, str]]]) -> None:
        """Each round after the first one has left some: then so will each that is to come."""
        for pid in self._workers:
            opened = [count[pid] for count in counts]
            growth = [len(now) - len(before) for before, now in pairwise(opened)]
            if len(growth) == ROUNDS - 1 and min(growth) >= PER_ROUND:
                new = opened[-1].keys() - opened[-2].keys()
                what = kernel.describe(opened[-1][max(new)]) if new else "?"
                requests = PER_ROUND * len(self._report.paths)
                text = f"{growth[-1]} descriptors more after {requests} requests, and never closed; one is {what}"
                self._report.fail("leaks", f"{self._name({'pid': pid})}: {text}")

    def _children(self) -> dict[int, dict[int, str]]:
        return {pid: kernel.children(pid) for pid in self._workers}

    def _look_for_children(self, before: Mapping[int, Mapping[int, str]]) -> None:
        def more() -> dict[int, dict[int, str]]:
            now = self._children()
            found = {pid: {child: name for child, name in now[pid].items() if child not in before[pid]} for pid in now}
            return {pid: children for pid, children in found.items() if children}

        eventually(lambda: not more(), BACK_WITHIN)
        for pid, children in more().items():
            child, name = next(iter(children.items()))
            text = f"{len(children)} child processes that requests have begun still run: {child} ({name})"
            self._report.fail("leaks", f"{self._name({'pid': pid})}: {text}")

    def _name(self, row: Mapping[str, Any]) -> str:
        worker = self._workers.get(row["pid"], row)
        return f"worker {worker.get('slot', '?')} (pid {row['pid']})"

    def _look_at_events(self, check: str, since: int) -> None:
        for event in self._server.events.find(*_AMISS, since=since):
            self._report.fail(check, _reason(event))

    # -- reload

    def _reload(self) -> None:
        events = self._server.events
        mark = events.mark()
        load = Load(self._visitor, self._report.paths, len(self._workers))
        begin = time.monotonic()
        with load.running():
            self._server.send(signal.SIGHUP)
            deadline = begin + BOOT_WITHIN
            while not events.wait(lambda: events.find(*_RELOADED, since=mark), _LOOK_AT_BOUNDS):
                self._look_at_bounds()
                if self._server.code is not None or time.monotonic() > deadline:
                    break
        outcome = events.find(*_RELOADED, since=mark)
        if not outcome:
            self._report.fail("reload", f"not done after {BOOT_WITHIN:g} s")
        elif outcome[0]["event"] != "reload_done":
            self._report.fail("reload", _reason(outcome[0]))
        self._judge("reload", load.visits)
        seconds = time.monotonic() - begin
        self._report.done["reload"] = f"{len(load.visits)} requests during {seconds:.1f} s, none lost"
        if eventually(self._look_at_workers, BOOT_WITHIN if outcome else 0):
            self._judge("reload", self._visit_each(self._report.paths))
            self._look_for_leases(Counter())
        self._look_at_events("reload", mark)

    # -- stop

    def _stop(self) -> None:
        events = self._server.events
        mark = events.mark()
        begin = time.monotonic()
        self._server.send(signal.SIGTERM)
        if not self._server.wait(STOP_WITHIN):
            self._report.fail("stop", f"not ended {STOP_WITHIN:g} s after TERM: {self._still_there()}")
        elif self._server.code:
            self._report.fail("stop", f"ended with exit code {self._server.code}")
        for event in events.find(*_HELD, since=mark):
            self._report.fail("stop", _reason(event))
        timeout = 0 if "leaks" in self._report.problems else BACK_WITHIN  # what was told of once is there to stay
        if not self._report.problems.get("stop") and not eventually(lambda: not self._server.left(), timeout):
            self._report.fail("stop", f"processes are left after the end: {self._still_there()}")
        self._report.done["stop"] = f"all processes ended {time.monotonic() - begin:.1f} s after TERM"

    def _still_there(self) -> str:
        found = [f"{pid} ({name})" for pid, name in self._server.left().items()]
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return f"{', '.join(found[:_NAMED])}{more}"


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(f"{status or 'no answer'} x {count}" for status, count in sorted(statuses.items()))


def _reason(event: Event) -> str:
    """Say what an event says, and where in the project the exception came from, or where it hangs."""
    text = str(event.get("message") or event["event"]).splitlines()[0]
    if receiver := event.get("receiver"):
        text = f"{text}: {receiver}"
    if hangs := place(str(event.get("stack", ""))):
        text = f"{text}{hangs}"
    told = cause(str(event.get("traceback", "")))
    error = told.partition(" (")[0]
    if error and error in text:
        return f"{text}{told[len(error) :]}"
    return f"{text}: {told}" if told else text
