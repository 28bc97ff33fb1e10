"""The pool's refusals as Django's `OperationalError`, so that `except OperationalError` written long ago catches them."""

from __future__ import annotations

from typing import Final

from django.db import OperationalError

from djworker.db.pool import errors


class PoolTimeout(errors.AcquireTimeout, OperationalError):
    """No connection came free in time. Remedy: hold them for a shorter time (the message names the holders), or `max_size`."""


class TooManyWaiting(errors.QueueFull, OperationalError):
    """The queue for a connection is full. Remedy: `max_waiting`, or fewer requests at once."""


class PoolClosed(errors.Closed, OperationalError):
    """The pool is closed: the worker is ending, or this is a copy that a fork left behind."""


class ServerUnavailable(errors.Unavailable, OperationalError):
    """The database server cannot be reached; `__cause__` says why."""


class WrongThread(errors.ForeignThread, OperationalError):
    """A Django connection of the main thread is used in a native thread. Remedy: `connections[alias]` in that thread."""


DJANGO: Final = errors.Refusals(
    timeout=PoolTimeout,
    too_many_waiting=TooManyWaiting,
    closed=PoolClosed,
    unavailable=ServerUnavailable,
    wrong_thread=WrongThread,
)
