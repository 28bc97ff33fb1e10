"""[mold, worker] Views that raise leave a trace.

With Django's own LOGGING and DEBUG off, an error of 500 goes to ADMINS by mail and nowhere else; most projects have none. So it
is an event of our log, unless the project has a handler that takes what ``django.request`` says of it.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from djworker import log

logger = logging.getLogger("djworker.http")

_ID: Final = "djworker.request_error"
#: What Django logs such an error as.
_DJANGO: Final = logging.getLogger("django.request")


def install() -> None:
    """Tell of them from now on."""
    from django.core.signals import got_request_exception

    got_request_exception.connect(_tell, dispatch_uid=_ID)


def end() -> None:
    """[a child that is asked] The process that asks tells of it."""
    from django.core.signals import got_request_exception

    got_request_exception.disconnect(dispatch_uid=_ID)


def _tell(request: Any = None, **_kwargs: Any) -> None:
    error = sys.exc_info()[1]
    if error is None or _project_tells():
        return
    meta = getattr(request, "META", {})
    path, method = getattr(request, "path", ""), getattr(request, "method", "")
    match = getattr(request, "resolver_match", None)
    fields = {
        "method": method,
        "url": path,
        "view": getattr(match, "view_name", "") or "",
        "request_id": str(meta.get("HTTP_X_REQUEST_ID", "")),
    }
    text = f"{method} {path} is answered with 500: {type(error).__name__}"
    log.event(logger, logging.ERROR, "request_error", text, **fields, exc_info=error)


def _project_tells() -> bool:
    """Whether a handler shows what Django logs of it: looked up each time, since a project may change them while it runs."""
    if not _DJANGO.isEnabledFor(logging.ERROR):
        return False
    record = _DJANGO.makeRecord(_DJANGO.name, logging.ERROR, "", 0, "", (), None)
    found, place = False, _DJANGO
    while place is not None:
        if any(_shows(handler, record) for handler in place.handlers):
            return True
        found = found or bool(place.handlers)
        place = place.parent if place.propagate else None  # type: ignore[assignment]  # the root has no parent
    return not found and logging.lastResort is not None


def _shows(handler: logging.Handler, record: logging.LogRecord) -> bool:
    from django.utils.log import AdminEmailHandler

    mails = isinstance(handler, (AdminEmailHandler, logging.NullHandler))
    return not mails and record.levelno >= handler.level and bool(handler.filter(record))
