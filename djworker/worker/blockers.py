"""What blocks the hub at this moment: the request, its view and statement, and the line. Seen from a native thread.

While the hub is blocked, what the main thread holds is still. It may go on at any moment, though, so nothing here keeps it for
long: a frame or an object whose last reference were this thread's would be torn down in this thread. Only names and numbers are
taken of frames, and files are read later.
"""

from __future__ import annotations

import gc
import sys
from traceback import FrameSummary, StackSummary
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import gevent
from gevent.hub import Hub
from greenlet import greenlet

from djworker import process
from djworker.greenlets import MOST_FRAMES, upwards
from djworker.log.source import UNKNOWN, project_place
from djworker.worker.stacks import is_running, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, FrameType

    from djworker.http.connection import InFlight
    from djworker.worker.answers import Insight

__all__ = ["Blocker", "Blockers"]

#: Characters of a statement in the text; the field has more of them.
SQL_SHOWN: Final = 200
_RUNS: Final = Hub.run.__code__
_ident = process.unpatched("_thread", "get_ident")


class Blocker(NamedTuple):
    """What runs, and keeps the hub from turning."""

    #: The request that it works for, if there is one.
    request: InFlight | None
    #: The name of the URL or of the view; empty where the frames do not tell.
    view: str
    #: The statement that runs, or the last one that did.
    sql: str
    in_sql: bool
    #: Code and line of each frame, the innermost first.
    places: Sequence[tuple[CodeType, int]]
    #: See `Blockers.running`.
    number: int

    @property
    def subject(self) -> object:
        """The same for stalls of the same kind: the view, and the innermost function that is not C."""
        return self.view, self.places[0][0] if self.places else None

    def stack(self) -> StackSummary:
        """As a traceback has it, the innermost call last. Reads files."""
        return StackSummary.from_list(
            [FrameSummary(code.co_filename, line, code.co_name) for code, line in reversed(self.places)]
        )

    def text(self, view: str = "") -> str:
        """``GET /export/ (shop:export), last SQL SELECT …, at views.py:12 in export``. view: where `self.view` is not known."""
        parts = [self._who(view or self.view)]
        if self.sql:
            shown = self.sql if len(self.sql) <= SQL_SHOWN else f"{self.sql[:SQL_SHOWN]}…"
            parts.append(f"{'in' if self.in_sql else 'last'} SQL {shown}")
        if (place := self.line()) != UNKNOWN:
            parts.append(f"at {place}")
        return ", ".join(parts)

    def _who(self, view: str) -> str:
        request = self.request
        if request is None or not request.url:
            names = [code.co_qualname for code, _ in self.places if code is not _RUNS]
            return f"{names[-1]} (no request)" if names else "no request"
        return f"{request.method} {request.url.partition('?')[0]} ({view or 'no view'})"

    def line(self) -> str:
        """``file:line in function`` of the innermost frame of the project."""
        return project_place(self.stack())

    def fields(self, view: str = "") -> dict[str, Any]:
        """The same for machines."""
        request = self.request
        return {
            "method": request.method if request is not None else "",
            "url": request.url if request is not None else "",
            "view": view or self.view,
            "request_id": request.request_id if request is not None else "",
            "sql": self.sql,
            "line": self.line(),
            "stack": "".join(self.stack().format()),
        }


class Blockers:
    """[worker, a native thread of it] Looks at what the main thread does. To be made in the main thread."""

    def __init__(self, in_flight: Callable[[], Sequence[InFlight]], insight: Insight) -> None:
        """Make it.

        Args:
            in_flight: what is being served.
            insight: what requests do with the database.
        """
        self._in_flight = in_flight
        self._insight = insight
        self._main = _ident()
        self.hub = gevent.get_hub()

    def running(self) -> int:
        """What runs, by a number: 0 where the hub waits for events."""
        return _number(list(upwards(sys._current_frames().get(self._main))))  # noqa: SLF001 - the only way to its stack

    def find(self, *, thorough: bool = True) -> Blocker:
        """What blocks the hub now. thorough: find the request of a greenlet that is no request's own; costs milliseconds."""
        frames = list(upwards(sys._current_frames().get(self._main)))  # noqa: SLF001 - as above
        runs = self._running_greenlet(thorough=thorough)
        request = self._request_of(runs)
        doing = self._insight.doing(frames)
        number, places = _number(frames), [(frame.f_code, frame.f_lineno) for frame in frames[:MOST_FRAMES]]
        frames.clear()
        view, sql = (doing.view, doing.sql) if doing is not None else ("", "")
        if request is not None and request.greenlet is not runs and not view:
            own = self._insight.doing(upwards(request.greenlet.gr_frame))
            view = own.view if own is not None else ""
        last = sql or self._last_sql(runs) or (self._last_sql(request.greenlet) if request is not None else "")
        return Blocker(request, view, last, bool(sql), places, number)

    def _last_sql(self, one: Any) -> str:
        return self._insight.last_sql(one) if one is not None else ""

    def _running_greenlet(self, *, thorough: bool) -> Any:
        for item in self._in_flight():
            if is_running(item.greenlet):
                return item.greenlet
        return self._other_greenlet() if thorough else None

    def _other_greenlet(self) -> Any:
        """One that is no request's own: a view, or something else, has spawned it."""
        objects = gc.get_objects()
        try:
            for thing in objects:
                if issubclass(type(thing), greenlet) and self._runs(thing):
                    return thing
            return None
        finally:
            # Some of them may be gone but for this list by now. Their finalizers are for the main thread.
            self.hub.loop.run_callback_threadsafe(objects.clear)
            thing = None

    def _runs(self, one: Any) -> bool:
        """Whether it is what the main thread is in. gevent's own truth of a greenlet begins before it runs."""
        return greenlet.__bool__(one) and one.gr_frame is None and one.parent is self.hub

    def _request_of(self, runs: Any) -> InFlight | None:
        requests = {id(item.greenlet): item for item in self._in_flight() if item.greenlet is not None}
        owner = id(runs) if id(runs) in requests else request_of(runs, requests)
        return requests[owner] if owner is not None else None


def _number(frames: Sequence[FrameType]) -> int:
    """Return the number of the outermost frame: a greenlet has the same one as long as it runs."""
    return 0 if not frames or frames[0].f_code is _RUNS else id(frames[-1])
