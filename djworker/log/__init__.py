"""The log: lifecycle events and the access log, as lines for people or for machines.

Lives in every process. Knows the standard library, and no process tree. ``log.event`` and ``log.configure`` are the face.
"""

from __future__ import annotations

from djworker.log.events import (
    access_file,
    access_line,
    capture_warnings,
    configure,
    configure_access,
    event,
    reassert,
    reopen,
    wants_fields,
    with_request_ids,
)
from djworker.log.request_id import RequestId

__all__ = [
    "RequestId",
    "access_file",
    "access_line",
    "capture_warnings",
    "configure",
    "configure_access",
    "event",
    "reassert",
    "reopen",
    "wants_fields",
    "with_request_ids",
]
