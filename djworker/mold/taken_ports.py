"""[mold] The remedy for a port that the project opens while it loads: one process has it, and others load the project too.

They are the other workers, where the project is not shared, and the generation that a reload brings while the old one serves.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final

__all__ = ["remedy"]

#: What some packages offer for more than one process.
_KNOWN: Final[Mapping[str, str]] = {
    "PROMETHEUS_METRICS_EXPORT_PORT": (
        "set PROMETHEUS_METRICS_EXPORT_PORT_RANGE instead, two for each worker and two more: range({port}, {end})"
    ),
}
_OTHERWISE: Final = (
    "let each process choose another, or open it after djworker.signals.worker_ready in the one worker that has a lock"
)
#: Ports of such a range, as an example: for nine workers.
_SEVERAL: Final = 20


def remedy(error: BaseException) -> str:
    """Return what to do about a port that is in use, with the setting that names it; empty for any other error."""
    if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
        return ""
    setting, port = _setting(error)
    what = f"{setting} = {port}: " if setting else ""
    todo = _KNOWN.get(setting, _OTHERWISE).format(port=port, end=port + _SEVERAL)
    return (
        f"{what}a port can be opened by one process only, and each worker or the next generation opens it too: {todo}"
    )


def _setting(error: BaseException) -> tuple[str, int]:
    """Return the setting with the port that a frame of the traceback speaks of, and the port."""
    from django.conf import settings

    found = set(_numbers(error.__traceback__))
    for name in dir(settings) if settings.configured else ():
        value = getattr(settings, name, None) if name.isupper() and "PORT" in name else None
        if isinstance(value, int) and value in found:
            return name, value
    return "", 0


def _numbers(trace: TracebackType | None) -> Iterator[int]:
    """Each number in the local variables along the traceback, in tuples such as addresses too."""
    while trace is not None:
        for value in trace.tb_frame.f_locals.values():
            yield from (item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, int))
        trace = trace.tb_next
