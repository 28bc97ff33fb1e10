"""Answers to what the arbiter asks for an operator: requests in flight, stacks, pools; and a request is ended.

They are read from live objects when the question comes, so that no request pays for them. The hub answers. Where it is blocked, a
native thread does, which sees that a message lies on the channel and is not fetched. It is made as the watchdog's: nothing it
calls is patched, takes a lock, or needs the hub.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol

import gevent

from djworker import process
from djworker.greenlets import MOST_FRAMES, upwards
from djworker.http.phases import SAID
from djworker.ipc import messages
from djworker.ipc.contract import RequestPhase
from djworker.ipc.scoreboard import Gauge
from djworker.units import NANOSECONDS
from djworker.worker import loops
from djworker.worker.endings import Endings
from djworker.worker.stacks import greenlets, is_running, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType

    from djworker.http.connection import InFlight
    from djworker.http.server import Server
    from djworker.ipc.channel import Channel
    from djworker.ipc.messages import Message, WorkerAsked
    from djworker.ipc.scoreboard import Row

#: Seconds that the hub has to fetch a message, before the thread takes it for blocked.
HUB_TIME: Final = 0.25
#: Characters of an answer; what is above is left out. Characters of one message.
MOST_TEXT: Final = 512 * 1024
PIECE: Final = 4096
#: Requests of an answer.
MOST_REQUESTS: Final = 500
#: Seconds to get an answer into a channel that is full.
SEND_TIME: Final = 1.0
_PHASES: Final = {phase.value: said for phase, said in SAID.items()}
_BLOCKED: Final = {"error": "its hub is blocked, so nothing can be changed there"}
_READABLE, _WRITABLE = 1, 4  # POLLIN, POLLOUT; gevent takes the names out of the module
_start_thread = process.unpatched("_thread", "start_new_thread")
_ident = process.unpatched("_thread", "get_ident")
_sleep = process.unpatched("time", "sleep")
_poll = process.unpatched("select", "poll")


class Insight(Protocol):
    """What is known of the database: ``djworker.db.insight``."""

    def doing(self, frames: Iterable[FrameType], /) -> Any:
        """Return what a greenlet does, by its frames, the innermost first."""

    def last_sql(self, greenlet: Any, /) -> str:
        """Return the last statement of a greenlet's request."""

    def view_at(self, environ: Mapping[str, Any], /) -> str:
        """Return the view of a request, as the URLconf has it."""

    def pools(self) -> list[dict[str, Any]]:
        """Return the pools of this process."""

    def databases(self) -> list[dict[str, Any]]:
        """Return each alias with its engine, and whether that has a pool."""

    def owners(self) -> list[Any]:
        """Return the greenlets that hold a connection."""

    def let_go(self) -> None:
        """Give back what the calling greenlet holds: its request was ended."""

    def pause(self, alias: str, seconds: float) -> dict[str, Any]:
        """Have requests wait that want a connection."""

    def resume(self, alias: str) -> dict[str, Any]:
        """Have them go on."""


class Nothing:
    """[worker] A worker without Django: what requests do with a database is not known."""

    def doing(self, _frames: Iterable[FrameType]) -> None:
        """Return nothing."""
        return

    def last_sql(self, _greenlet: Any) -> str:
        """Return no statement."""
        return ""

    def view_at(self, _environ: Mapping[str, Any]) -> str:
        """Return no view."""
        return ""

    def pools(self) -> list[dict[str, Any]]:
        """Return no pools."""
        return []

    def databases(self) -> list[dict[str, Any]]:
        """Return no database."""
        return []

    def owners(self) -> list[Any]:
        """Return none."""
        return []

    def let_go(self) -> None:
        """Hold nothing."""

    def pause(self, alias: str, _seconds: float) -> dict[str, Any]:
        """Refuse."""
        return {"refused": f"no database {alias!r}"}

    def resume(self, alias: str) -> dict[str, Any]:
        """Refuse."""
        return {"refused": f"no database {alias!r}"}


class Answers:
    """[worker] Answers questions, in the hub or beside it."""

    def __init__(
        self,
        channel: Channel,
        row: Row,
        server: Server,
        slot: int,
        insight: Insight,
        act: Callable[[Message], None],
    ) -> None:
        """Make them.

        Args:
            channel: where questions come from.
            row: where the hub beats.
            server: whose requests are in flight.
            slot: the worker's, for the ids of requests.
            insight: ``djworker.db.insight``, or ``Nothing``.
            act: does what another message asks for, in the hub: one that the thread has taken with a question.
        """
        self._channel = channel
        self._row = row
        self._server = server
        self._slot = slot
        self._insight = insight
        self._act = act
        #: Ends requests: for operators, and at their deadlines.
        self.endings = Endings(server, self)
        self._main = _ident()
        self._loop = gevent.get_hub().loop
        self._about: Mapping[str, Callable[[Mapping[str, Any], FrameType | None], dict[str, Any]]] = {
            "requests": self._requests,
            "trace": self._trace,
            "pool": self._pools,
            "kill": self._kill,
            "pause": self._pause,
            "resume": self._resume,
        }

    def start(self) -> None:
        """Have a thread answer where the hub is blocked. Without packets (macOS) two readers would tear a message."""
        if sys.platform == "linux":
            _start_thread(self._watch, ())

    # -- in the hub ---------------------------------------------------------------------------------------------------

    def answer(self, question: WorkerAsked) -> None:
        """[hub] Answer in a greenlet; it never raises."""
        gevent.spawn(self._answer, question, None)

    # -- beside the hub -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Take what the hub does not fetch."""
        while (fd := self._channel.fileno()) >= 0:
            poll = _poll()
            poll.register(fd, _READABLE)
            poll.poll()
            waiting = self._channel.peek()
            if waiting == b"":  # the arbiter is gone: the hub sees to that
                return
            _sleep(HUB_TIME)
            if waiting is not None and self._channel.peek() == waiting:
                self._take()

    def _take(self) -> None:
        for message in self._channel.receive().messages:
            if isinstance(message, messages.WorkerAsked):
                self._answer(message, sys._current_frames().get(self._main))  # noqa: SLF001 - no public way
            else:
                self._loop.run_callback_threadsafe(self._act, message)

    # -- the answer ---------------------------------------------------------------------------------------------------

    def _answer(self, question: WorkerAsked, blocked: FrameType | None) -> None:
        """blocked: where the main thread is, if it is not here."""
        about = self._about.get(question.about)
        try:
            told = about(question.arguments, blocked) if about is not None else {"error": "not known to this worker"}
        except Exception as error:  # noqa: BLE001 - the operator is told, and the worker goes on
            told = {"error": f"{type(error).__name__}: {error}"}
        silent = (time.monotonic_ns() - self._row[Gauge.BEAT]) / NANOSECONDS
        told |= {
            "by": "hub" if blocked is None else "thread",
            "blocked": round(silent, 3) if blocked is not None else 0.0,
        }
        self._send(question.number, json.dumps(told, default=str), in_hub=blocked is None)

    def _send(self, number: int, text: str, *, in_hub: bool) -> None:
        pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        deadline = time.monotonic() + SEND_TIME
        for index, piece in enumerate(pieces):
            answer = messages.WorkerAnswered(number, index == len(pieces) - 1, piece)
            while not self._channel.send(answer):  # full, or gone
                if time.monotonic() > deadline:
                    return
                self._wait_for_room(in_hub=in_hub)

    def _wait_for_room(self, *, in_hub: bool) -> None:
        if in_hub:
            gevent.sleep(0.005)
            return
        poll = _poll()
        poll.register(self._channel.fileno(), _WRITABLE)
        poll.poll(50)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _requests(self, _: Mapping[str, Any], blocked: FrameType | None) -> dict[str, Any]:
        found = self._server.in_flight()
        told = [self._request(item, blocked) for item in found[:MOST_REQUESTS]]
        return {"requests": told, "left_out": len(found) - len(told), "arriving": len(self._server.arriving)}

    def _request(self, item: InFlight, blocked: FrameType | None) -> dict[str, Any]:
        doing = self._insight.doing(_frames(item.greenlet, blocked))
        phase = _PHASES.get(item.phase, item.phase)
        if phase == RequestPhase.RUNNING and doing is not None and doing.phase:
            phase = doing.phase
        return {
            "id": f"{self._slot}-{item.number}",
            "method": item.method,
            "path": item.url,
            "view": doing.view if doing is not None else "",
            "age": round(item.age, 3),
            "phase": phase,
            "alias": doing.alias if doing is not None else "",
            "sql": doing.sql if doing is not None else "",
            "client": item.client,
            "peer": item.peer,
            "request_id": item.request_id,
            "blocks_hub": blocked is not None and is_running(item.greenlet),
        }

    # -- for Endings, in the hub --------------------------------------------------------------------------------------

    def describe(self, item: InFlight) -> dict[str, Any]:
        """[hub] Return the fields of a request, as ``requests`` shows them."""
        return self._request(item, None)

    def view(self, item: InFlight) -> str:
        """[hub] Return the view that the URLconf has for a request, empty if it has none. Project code may run for it."""
        return self._insight.view_at(item.environ) if item.environ else ""

    def owners(self) -> list[Any]:
        """[hub] Return the greenlets that hold a database connection."""
        return self._insight.owners()

    def frames(self, item: InFlight) -> Iterator[FrameType]:
        """[hub] Return where a request is, the innermost frame first."""
        return _frames(item.greenlet, None)

    def stack(self, item: InFlight) -> str:
        """[hub] Return where a request is, as a traceback has it; where it waits for an event loop, the loop's tasks too."""
        loop = loops.loop_of(self.frames(item))
        tasks = [] if loop is None else loops.frames_of(loop)
        return "\n".join(map(_stack, (self.frames(item), *tasks)))

    # -- stacks -------------------------------------------------------------------------------------------------------

    def _trace(self, _: Mapping[str, Any], blocked: FrameType | None) -> dict[str, Any]:
        """Stacks by request; those of no request are counted where they are the same, as those of idle connections are."""
        requests = {
            id(item.greenlet): (item, [_stack(_frames(item.greenlet, blocked))]) for item in self._server.in_flight()
        }
        others: Counter[str] = Counter()
        if blocked is None:  # to look for all takes long, and what blocks is one of the above, or the main thread's
            for greenlet in greenlets():
                if id(greenlet) in requests:
                    continue
                owner = request_of(greenlet, requests)
                stack = _stack(_frames(greenlet, None))
                if owner is not None:
                    requests[owner][1].append(stack)
                else:
                    others[stack] += 1
        groups = [{"request": self._request(item, blocked), "stacks": stacks} for item, stacks in requests.values()]
        return {
            "main": _stack(upwards(blocked)) if blocked is not None else "",
            **_within_limit(groups, [{"count": count, "stack": stack} for stack, count in others.most_common()]),
        }

    # -- pools --------------------------------------------------------------------------------------------------------

    def _pools(self, _: Mapping[str, Any], _blocked: FrameType | None) -> dict[str, Any]:
        for _attempt in range(2):
            try:
                return {"pools": self._insight.pools(), "databases": self._insight.databases()}
            except RuntimeError:  # in the thread: a list has changed while it was read
                continue
        return {"pools": self._insight.pools(), "databases": self._insight.databases()}

    # -- ending a request ---------------------------------------------------------------------------------------------

    def _kill(self, arguments: Mapping[str, Any], blocked: FrameType | None) -> dict[str, Any]:
        wanted = str(arguments.get("request", ""))
        found = [
            item for item in self._server.in_flight() if wanted in (f"{self._slot}-{item.number}", item.request_id)
        ]
        if not found:
            return {"killed": []}
        told = [self._request(item, blocked) for item in found]
        if len(found) > 1:
            return {
                "killed": [],
                "refused": f"{len(found)} requests have the id {wanted}: give djworker's own id",
                "requests": told,
            }
        if blocked is not None:
            return {
                "killed": [],
                "refused": "the hub of its worker is blocked, so nothing there can be ended",
                "requests": told,
            }
        return {"killed": [self.endings.kill(found[0])]}

    # -- databases ----------------------------------------------------------------------------------------------------

    def _pause(self, arguments: Mapping[str, Any], blocked: FrameType | None) -> dict[str, Any]:
        if blocked is not None:
            return _BLOCKED
        return self._insight.pause(str(arguments["alias"]), float(arguments["timeout"]))

    def _resume(self, arguments: Mapping[str, Any], blocked: FrameType | None) -> dict[str, Any]:
        if blocked is not None:
            return _BLOCKED
        return self._insight.resume(str(arguments["alias"]))


def _frames(greenlet: Any, blocked: FrameType | None) -> Iterator[FrameType]:
    """Where a greenlet is, the innermost frame first. blocked: the main thread's, which the one that runs has."""
    if greenlet is None:
        return iter(())
    frame = greenlet.gr_frame
    if frame is None and blocked is not None and is_running(greenlet):
        frame = blocked
    return upwards(frame)


def _stack(frames: Iterable[FrameType]) -> str:
    """As a traceback has it, the innermost call last."""
    found = [frame for frame, _ in zip(frames, range(MOST_FRAMES), strict=False)]
    return "".join(traceback.StackSummary.extract((frame, frame.f_lineno) for frame in reversed(found)).format())


def _within_limit(groups: list[dict[str, Any]], others: list[dict[str, Any]]) -> dict[str, Any]:
    """Leave out what would make the answer too long: others first, then the youngest requests."""
    left = MOST_TEXT
    shown: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for number, items in enumerate((groups, others)):
        for item in items:
            left -= len(json.dumps(item, default=str))
            if left < 0:
                break
            shown[number].append(item)
    left_out = len(groups) + len(others) - len(shown[0]) - len(shown[1])
    return {"groups": shown[0], "others": shown[1], "left_out": left_out}
