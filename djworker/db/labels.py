"""Who holds a connection, in words, for messages and counts: the request's method, path and view."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.signals import request_started
from django.urls import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ATTRIBUTE = "djworker_request"


def _remember(environ: Mapping[str, Any] | None = None, **_: Any) -> None:
    from gevent import getcurrent  # noqa: PLC0415 -- only a process that serves needs it

    request = (str(environ.get("REQUEST_METHOD", "")), str(environ.get("PATH_INFO", ""))) if environ else None
    setattr(getcurrent(), _ATTRIBUTE, request)


request_started.connect(_remember, dispatch_uid="djworker.db.labels")


def label_of(greenlet: object) -> Callable[[], str]:
    """A function that says it later; it keeps nothing alive but two words."""
    return partial(_describe, getattr(greenlet, _ATTRIBUTE, None), getattr(greenlet, "name", "main"))


def _describe(request: tuple[str, str] | None, name: str) -> str:
    if request is None:
        return str(name)
    method, path = request
    try:
        view = resolve(path).view_name
    except Exception:  # noqa: BLE001 -- a path of nobody's, or a URLconf that cannot be loaded: the message matters more
        view = "no view"
    return f"{method} {path} ({view})"
