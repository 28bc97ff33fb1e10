"""Life-cycle signals of the server's processes. A receiver runs in the process that the table names.

Connect receivers in an ``AppConfig.ready``; they then exist in the mold, and in every worker that it forks.

=================  =========  ================================================================  ======================
signal             process    when                                                              arguments
=================  =========  ================================================================  ======================
mold_ready         mold       project loaded, checked and warmed; before the first fork         generation, pid
worker_started     worker     just forked; accepts nothing yet                                  slot, generation, pid
worker_ready       worker     accepts requests                                                  slot, generation, pid
worker_draining    worker     was told to stop; running requests still go on                    slot, generation, pid
worker_exiting     worker     the last thing before its end; not sent when it is killed         slot, generation, pid
process_gone       a child    a process that had the project loaded has ended, in any way       kind, pid, generation, status
=================  =========  ================================================================  ======================

The sender of all of them is ``Lifecycle``. Receivers of worker signals run in greenlets of their own, in the order of
their connection, and a worker waits for all of them for at most 10 seconds. If one raises, it is logged
(event ``hook_failed``). If one still runs after that time, it is logged with its stack (event ``hook_hangs``) and left alone.
A receiver that blocks the hub blocks the worker: the watchdog finds this. Receivers of ``mold_ready`` run one after
the other, must leave no thread, greenlet or connection behind, and must end within ``boot_timeout``.

Receivers of ``process_gone`` run for each death in a process of their own, a short-lived child of the mold: their
changes in memory are lost. ``kind`` is ``worker``, ``mold``, or ``probe`` for a child that answered a probe; ``status`` is
its exit code, or minus the signal that ended it. If no code is loaded, they run later. At the end of the server the molds
go first, and nothing is sent.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from django.dispatch import Signal

from djworker import log
from djworker.ipc.contract import HOOK_TIMEOUT

if TYPE_CHECKING:
    from gevent import Greenlet


mold_ready = Signal()
worker_started = Signal()
worker_ready = Signal()
worker_draining = Signal()
worker_exiting = Signal()
process_gone = Signal()

_NAMES: Final = {
    mold_ready: "mold_ready",
    worker_started: "worker_started",
    worker_ready: "worker_ready",
    worker_draining: "worker_draining",
    worker_exiting: "worker_exiting",
    process_gone: "process_gone",
}
_logger = logging.getLogger("djworker.worker")

Receiver = Callable[..., object]


class Lifecycle:
    """The sender of the life-cycle signals."""


def send_guarded(signal: Signal, *, limit: float = HOOK_TIMEOUT, **arguments: Any) -> None:
    """[mold, worker] Send a signal so that no receiver can stop or hold the process. Never raises.

    limit: seconds to wait for the receivers of a worker's signal; the mold's run inline, because it has no loop.
    """
    receivers = _receivers(signal)
    if signal is mold_ready:
        for receiver in receivers:
            _call(signal, receiver, arguments)
    elif receivers:
        _run_in_greenlets(signal, receivers, arguments, limit)


def has_receivers(signal: Signal) -> bool:
    """Whether anything is to be called."""
    return bool(_receivers(signal))


def _receivers(signal: Signal) -> list[Receiver]:
    # Not public, but without it all receivers would share one greenlet, and the first that hangs would stop the others.
    # The same pair of lists from Django 5.0 to 6.1: plain receivers and asynchronous ones.
    plain, asynchronous = signal._live_receivers(Lifecycle)  # noqa: SLF001 - Django's `send` calls all at once
    return [*plain, *map(_refusal, asynchronous)]


def _refusal(receiver: Receiver) -> Receiver:
    """Stand in for an asynchronous receiver: asyncio's loop would need a thread of its own under gevent."""

    @wraps(receiver)
    def refuse(**_arguments: object) -> None:
        raise TypeError("life-cycle signals need plain functions, this is an asynchronous one")

    return refuse


def _run_in_greenlets(signal: Signal, receivers: list[Receiver], arguments: dict[str, Any], limit: float) -> None:
    import gevent  # noqa: PLC0415 - runserver and migrate import this module too, without gevent's world

    running: dict[Greenlet[..., None], Receiver] = {
        gevent.spawn(_call, signal, receiver, arguments): receiver for receiver in receivers
    }
    done = gevent.joinall(list(running), timeout=limit)
    for greenlet in running.keys() - set(done):
        log.event(
            _logger,
            logging.ERROR,
            "hook_hangs",
            f"a receiver of {_NAMES[signal]} still runs; the server does not wait for it any longer",
            receiver=_name(running[greenlet]),
            seconds=limit,
            stack="".join(traceback.format_stack(greenlet.gr_frame)),
        )


def _call(signal: Signal, receiver: Receiver, arguments: dict[str, Any]) -> None:
    started = time.monotonic()
    try:
        receiver(signal=signal, sender=Lifecycle, **arguments)
    # SystemExit and KeyboardInterrupt of a greenlet would end the worker.
    except BaseException as error:  # noqa: BLE001 - a receiver must not hurt the server
        log.event(
            _logger,
            logging.ERROR,
            "hook_failed",
            f"a receiver of {_NAMES[signal]} failed",
            receiver=_name(receiver),
            seconds=round(time.monotonic() - started, 3),
            exc_info=error,
        )


def _name(receiver: Receiver) -> str:
    name = getattr(receiver, "__qualname__", None) or repr(receiver)
    module = getattr(receiver, "__module__", None)
    return f"{module}.{name}" if module else name
