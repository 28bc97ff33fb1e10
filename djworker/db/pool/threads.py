"""Which native thread this is: pools live in the process's main one, where its greenlets are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gevent.hub import MAIN_THREAD_IDENT  # type: ignore[attr-defined]  # not in the stubs

from djworker import process

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAIN_THREAD", "thread_id"]

#: The number of the thread that imported gevent; a fork keeps it.
MAIN_THREAD: Final[int] = MAIN_THREAD_IDENT
#: The number of the native thread. A patched `get_ident` names the greenlet.
thread_id: Callable[[], int] = process.unpatched("_thread", "get_ident")
