"""[mold] asyncio in greenlets: an event loop runs in its greenlet, not in the thread that all greenlets share.

Django runs an `async def` view in a loop of its own, in another thread: under gevent that is another greenlet of the same
native thread. asyncio's C code notes the running loop per native thread, so while one such view awaited, the ORM refused every
other request (`SynchronousOnlyOperation`), and a second async view failed. asyncio's own Python code notes it in a
`threading.local`, which gevent makes local to the greenlet, and does all else the same.

Native threads for the loops would be the other way. But asgiref hands work between them with locks of `threading`, which are
gevent's, and whose wake-ups can be lost between native threads (see `djworker.db.drivers.offload`).
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import base_events, events, futures, selector_events, tasks
from typing import TYPE_CHECKING, Any

from gevent.local import local

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import ModuleType

_first_step = base_events.BaseEventLoop._asyncgen_firstiter_hook  # type: ignore[attr-defined]
_process_events = selector_events.BaseSelectorEventLoop._process_events  # type: ignore[attr-defined]


class RunningLoop(local):
    """[worker] What `asyncio.events` keeps, for each greenlet."""

    loop_pid: tuple[asyncio.AbstractEventLoop | None, int | None] = (None, None)


def install() -> None:
    """Use asyncio's Python code in place of its C code. To be called before any module takes a name out of asyncio."""
    events._running_loop = RunningLoop()  # type: ignore[attr-defined]
    for module in (events, futures, tasks):
        for name, twin in list(vars(module).items()):
            if name.startswith("_py_"):
                _replace(module, twin.__name__, twin)
    _replace(futures, "Future", futures._PyFuture)  # type: ignore[attr-defined]
    _replace(tasks, "Task", tasks._PyTask)  # type: ignore[attr-defined]
    base_events.BaseEventLoop._asyncgen_firstiter_hook = _note  # type: ignore[attr-defined]
    selector_events.BaseSelectorEventLoop._process_events = _woken_up  # type: ignore[attr-defined]


def _replace(module: ModuleType, name: str, value: Any) -> None:
    setattr(module, name, value)
    if hasattr(asyncio, name):
        setattr(asyncio, name, value)


def _woken_up(loop: Any, ready: Any) -> None:
    """A loop comes back from its wait, in which others ran and set the hooks for asynchronous generators to their own.

    The hooks are the thread's. With another loop's, a generator that is not read to its end is closed there, or not at all.
    """
    sys.set_asyncgen_hooks(firstiter=loop._asyncgen_firstiter_hook, finalizer=loop._asyncgen_finalizer_hook)
    _process_events(loop, ready)


def _note(loop: Any, generator: AsyncGenerator[Any, Any]) -> None:
    """A generator begins: it is one of the loop that runs it, whichever loop's hook this is.

    At its end a loop closes the generators that were noted as its own, and would close another's in the middle.
    """
    _first_step(events._get_running_loop() or loop, generator)
