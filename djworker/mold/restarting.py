"""[mold] Threads of libraries that notice a fork and begin their threads again: they are ended, and no reason to refuse.

A library is in the table when its threads were seen to work in forked workers: see ``tests/processes/test_loading.py`` and
``tests/agents``.
"""

from __future__ import annotations

import gzip
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import gevent

from djworker.db.drivers import turns
from djworker.greenlets import upwards
from djworker.mold import cleanup, leftovers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Root module → its name. Sentry, Elastic APM and Scout begin again at the next event, the others in hooks of
#: ``os.register_at_fork``; Logfire's own thread looks once whether the token is right.
LIBRARIES: Final = {
    "elasticapm": "Elastic APM",
    "logfire": "Logfire",
    "opentelemetry": "OpenTelemetry",
    "posthog": "PostHog",
    "scout_apm": "Scout",
    "sentry_sdk": "Sentry",
}
#: Seconds for events that wait to be sent, and for threads to end: Sentry's own exit handler takes as long.
TIMEOUT: Final = 2.0


def threads(things: Iterable[Any] | None = None) -> dict[Any, str]:
    """Such threads, with the names of their libraries.

    things: where to look; else among all objects.
    """
    return dict(_threads(things))


def end(found: Mapping[Any, str]) -> list[str]:
    """End these threads, after they have sent what they have; the names of their libraries."""
    if not found:
        return []
    _send()
    every = {**found, **threads()}  # to send, Sentry begins a thread that it had not begun before
    gevent.joinall([greenlet for greenlet, library in every.items() if library == LIBRARIES["logfire"]], TIMEOUT)
    _close_buffers(greenlet for greenlet, library in every.items() if library == LIBRARIES["elasticapm"])
    _end(every)
    return sorted(set(every.values()))


def end_before_fork() -> None:
    """[the middle process] Hooks for forks have begun these threads here, and begin them in the next process once more.

    They must have ended: a copy of one still waits for the library's events, in a hub that does not turn.
    """
    if cleanup.has_hub():
        _end(leftovers.greenlets())
        cleanup.destroy_hub()


def _close_buffers(greenlets: Iterable[Any]) -> None:
    """Elastic APM's thread has an empty GzipFile on a BytesIO. Since Python 3.12 they are a cycle.

    What collects it may close the BytesIO first: then the log has a traceback that is no fault of the project's.
    """
    for greenlet in greenlets:
        for frame in upwards(greenlet.gr_frame):
            if isinstance(buffer := frame.f_locals.get("buffer"), gzip.GzipFile):
                buffer.close()


def _end(greenlets: Iterable[Any]) -> None:
    with suppress(gevent.Timeout):  # what does not end is found, and refused
        # SystemExit, because ``threading`` prints every other exception that ends a thread.
        gevent.killall(list(greenlets), SystemExit, timeout=TIMEOUT)


def _threads(things: Iterable[Any] | None) -> Iterator[tuple[Any, str]]:
    for greenlet in leftovers.greenlets(things):
        if thread := leftovers.thread_of(greenlet):
            target = getattr(thread, "_target", None)
            root = str(getattr(target, "__module__", type(thread).__module__)).partition(".")[0]
            if root in LIBRARIES:
                yield greenlet, LIBRARIES[root]


def _send() -> None:
    """What is not sent yet would be forked, and each worker would send it, or none."""
    with turns.at_most(TIMEOUT):
        if (sentry := sys.modules.get("sentry_sdk")) is not None:
            sentry.flush(TIMEOUT)
        if (elastic := sys.modules.get("elasticapm")) is not None and (client := elastic.get_client()) is not None:
            client._transport.flush()  # noqa: SLF001 - it has no public way
        if (scout := sys.modules.get("scout_apm.core.agent.socket")) is not None:
            scout.CoreAgentSocketThread.wait_until_drained(TIMEOUT)
        if (posthog := sys.modules.get("posthog.client")) is not None:
            for client in leftovers.existing(posthog.Client):
                client.flush()
