"""The descriptor that a driver has beside its client library's."""

from __future__ import annotations

import gc
import os
import socket
import warnings

import pytest

from djworker.db.drivers.sockets import Line


class Connection:
    """In a cycle with its line, as a connection whose set-up failed is with the traceback: only the collector finds it."""

    def __init__(self, line: Line) -> None:
        self.line, self.own = line, self


def test_a_line_that_is_dropped_closes_without_a_warning() -> None:
    """Python's own warns, whatever the order in which the collector ends the two (3.13)."""
    near, far = socket.socketpair()
    with near, far, warnings.catch_warnings():
        warnings.simplefilter("error")
        fd = Connection(Line(fileno=os.dup(near.fileno()))).line.fileno()
        gc.collect()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
