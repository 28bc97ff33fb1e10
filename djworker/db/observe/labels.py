"""The holder of a connection in words, for messages and counts: the request's method, path and view.

Noted in words when a request begins, put together only when they are asked for: a request that is never named pays
for two look-ups.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

from django.core.handlers.base import BaseHandler
from django.core.signals import request_started
from django.urls import resolve
from greenlet import getcurrent

from djworker.db.pool.stats import text_of
from djworker.greenlets import spawners_of, upwards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from greenlet import greenlet

_ATTRIBUTE: Final = "djworker_request"
#: Of a greenlet: the last statement that it has begun. Cursors set it, by its name.
_STATEMENT: Final = "djworker_statement"
#: Where Django keeps the request with what it resolved to. A private name: without it, the path is resolved again.
_RESOLVES: Final = getattr(getattr(BaseHandler, "_get_response", None), "__code__", None)


class _Request(NamedTuple):
    method: str
    path: str  # as WSGI has it: bytes in Latin-1's clothes


def _remember(environ: Mapping[str, object] | None = None, **_: object) -> None:
    request = _Request(str(environ.get("REQUEST_METHOD", "")), str(environ.get("PATH_INFO", ""))) if environ else None
    current = getcurrent()
    setattr(current, _ATTRIBUTE, request)
    setattr(current, _STATEMENT, None)  # not one of the request before


request_started.connect(_remember, dispatch_uid="djworker.db.observe.labels")


class Label:
    """[worker] A greenlet and its request, to be named later.

    Keeps nothing alive but a few words: the pool holds it as long as a connection is out.
    """

    __slots__ = ("_greenlet", "_request", "_work")

    def __init__(self, owner: greenlet) -> None:
        self._greenlet = weakref.ref(owner)
        self._request: _Request | None = getattr(owner, _ATTRIBUTE, None)
        self._work = ""
        if self._request is None:
            self._request, self._work = _of_parents(owner), _work(owner)

    def __call__(self) -> str:
        """Method, path and view; for a greenlet of no request, what it runs."""
        request = self._request
        return f"{request.method} {_decoded(request.path)} ({self.view})" if request else self._work

    @property
    def view(self) -> str:
        """The view's name as URL patterns have it, or its dotted path; to count by, for a path may hold a number."""
        if self._request is None:
            return self._work
        return self._as_django_resolved() or _as_the_path_says(self._request) or "no view"

    def _as_django_resolved(self) -> str:
        """A middleware may have chosen another URLconf (one per tenant); the greenlet's own frames know."""
        owner = self._greenlet()
        for frame in frames(owner) if owner is not None else ():
            if frame.f_code is _RESOLVES:
                request = frame.f_locals.get("request")
                match = getattr(request, "resolver_match", None)
                if match is not None and self._is_of(request):
                    return str(match.view_name)
        return ""

    def _is_of(self, request: object) -> bool:
        """It may have gone on to another one."""
        environ = getattr(request, "environ", {})
        return self._request == (environ.get("REQUEST_METHOD"), environ.get("PATH_INFO"))


def label_of(owner: greenlet) -> Label:
    """The label of what a greenlet is doing now."""
    return Label(owner)


def view_of(label: Label | str | Callable[[], str] | None) -> str:
    """The view of any label that the pool may have been given."""
    return label.view if isinstance(label, Label) else text_of(label)


def last_statement(owner: object) -> object:
    """What a greenlet has given last to a cursor's ``execute``, in its request; None if there is nothing."""
    return getattr(owner, _STATEMENT, None)


def view_at(environ: Mapping[str, object]) -> str:
    """The view that the URLconf has for a request, empty if it has none; project code may run for it."""
    return _as_the_path_says(_Request(str(environ.get("REQUEST_METHOD", "")), str(environ.get("PATH_INFO", ""))))


def frames(owner: greenlet) -> Iterator[FrameType]:
    """Where a greenlet is now, the innermost first; nothing if it has ended. Neither stops it nor switches."""
    frame = sys._getframe(1) if owner is getcurrent() else owner.gr_frame  # noqa: SLF001 - its documented name
    return upwards(frame)


def _as_the_path_says(request: _Request) -> str:
    try:
        return str(resolve(_decoded(request.path)).view_name)
    except Exception:  # noqa: BLE001 - a path without a view, or a URLconf that cannot be loaded: the message matters more
        return ""


def _decoded(path: str) -> str:
    return path.encode("latin-1", "replace").decode(errors="replace")


def _of_parents(owner: greenlet) -> _Request | None:
    found = (getattr(spawner, _ATTRIBUTE, None) for spawner in spawners_of(owner))
    return next((request for request in found if request is not None), None)


def _work(owner: greenlet) -> str:
    """Greenlets have numbers for names, which say nothing and cannot be counted by."""
    run = getattr(owner, "_run", None)
    if run is None:
        return "main"
    module, name = getattr(run, "__module__", None), getattr(run, "__qualname__", type(run).__name__)
    return f"greenlet {module}.{name}" if module else f"greenlet {name}"
