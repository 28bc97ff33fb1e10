"""Letting others run during long work on the CPU."""

from __future__ import annotations

from typing import Final

import gevent

#: `gevent.sleep(0)` runs the other greenlets that are ready, but hardly ever looks at timers and sockets: with 5 ms of work
#: between the calls a 1 ms timer fired three times in a second. Any positive time makes it a turn of the whole loop.
_A_MOMENT: Final = 1e-6  # seconds


def at_most(seconds: float) -> gevent.Timeout:
    """A context manager: what is inside ends after so long, without an exception."""
    return gevent.Timeout(seconds, False)  # type: ignore[arg-type]  # gevent's word for "silently", unknown to the stubs


def give_way() -> None:
    """Let everything run that is due: greenlets, timers, sockets."""
    gevent.sleep(_A_MOMENT)
