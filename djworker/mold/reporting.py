"""[mold] The mold's words for the log: on loading, on things left behind, and on answers."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Sequence

from djworker import log, process
from djworker.conf.problems import Problem
from djworker.ipc.contract import SETTINGS_VARIABLE
from djworker.ipc.messages import ProcessGone
from djworker.mold.stages import BootError

logger = logging.getLogger("djworker.mold")


# -- loading


def odd_option(problem: Problem) -> None:
    """An option, or a setting, is odd but usable."""
    log.event(logger, logging.WARNING, "config_warning", str(problem), id=problem.id, setting=problem.setting)


def two_places(cwd: str, link: str, target: str) -> None:
    """Code of one release runs in the directory of another: a deployment has moved the link that the command line names."""
    text = (
        f"the working directory is {cwd}, but the code is that of {target}, where {link} leads: start with"
        f" --chdir {link}, which each reload enters anew"
    )
    log.event(logger, logging.WARNING, "working_directory", text, cwd=cwd, link=link, target=target)


def loaded(generation: int) -> None:
    """Settings and code may be others with each generation, and so may Django be."""
    import django
    from django.conf import settings

    module = str(getattr(settings, "SETTINGS_MODULE", "") or os.environ.get(SETTINGS_VARIABLE, ""))
    fields = {"settings": module, "debug": settings.DEBUG, "django": django.get_version()}
    mebibytes = process.resident_bytes() >> 20
    text = f"generation {generation} has loaded {module or 'settings'}, with DEBUG {'on' if settings.DEBUG else 'off'}"
    log.event(
        logger,
        logging.INFO,
        "project_loaded",
        text,
        generation=generation,
        **fields,
        python=platform.python_version(),
        mebibytes=mebibytes,
        allowed_hosts=[str(host) for host in settings.ALLOWED_HOSTS],
    )


# -- what was left behind while loading


def threads_ended(libraries: Sequence[str]) -> None:
    """They begin again after each fork."""
    text = f"threads of {', '.join(libraries)} were ended; each worker begins its own"
    log.event(logger, logging.INFO, "threads_ended", text, libraries=libraries)


def not_shared(found: Sequence[str]) -> None:
    """Each worker loads the project by itself: it works, and it costs. found: what cannot be forked, and where."""
    size = process.resident_bytes() >> 20
    text = (
        f"each worker loads the project by itself, because this cannot be forked: {'; '.join(found)}. Each worker"
        f" takes about {size} MiB for itself, and starts as slowly as a boot. Begin it in a receiver of"
        " djworker.signals.worker_ready, and workers share the memory; with preload = off there is no warning"
    )
    log.event(logger, logging.WARNING, "not_shared", text, found=list(found), mebibytes=size)


def connections_closed(closed: Sequence[tuple[str, str]]) -> None:
    """No reason to refuse; and where the library opens another by itself, no reason to warn. closed: peers and libraries."""
    for peer, library in closed:
        text = (
            f"a connection to {peer} was left open while loading; it is closed, since workers cannot share it. Open it in a"
            " receiver of djworker.signals.worker_ready, unless its library opens another by itself"
        )
        _left_open(text, peer, library)


def channels_connected(connected: Sequence[tuple[str, str]]) -> None:
    """No reason to refuse: they connect anew. A library that asks again, where a call fails, is no reason to warn.

    connected: peers and libraries.
    """
    for peer, library in connected:
        text = (
            f"a channel of gRPC to {peer} was connected while loading; the first call over it may fail in a worker"
            " (UNAVAILABLE). Open it in a receiver of djworker.signals.worker_ready, or close it after the call"
        )
        _left_open(text, peer, library)


def _left_open(text: str, peer: str, library: str) -> None:
    level = logging.DEBUG if library else logging.WARNING
    log.event(logger, level, "connection_left_open", text, peer=peer, library=library)


# -- what a child was asked


def cannot_be_asked(generation: int, error: OSError) -> None:
    """There is no process to answer."""
    text = f"generation {generation} cannot be asked for pages: {error}"
    log.event(logger, logging.WARNING, "probe_failed", text, generation=generation, error=str(error))


def answered_badly(question: str, text: str, stack: str) -> None:
    """An answer is bad, and it is no reason to refuse."""
    fields = {"question": question, "error": text, "traceback": stack}
    log.event(logger, logging.WARNING, "probe_failed", f"{question}: {text}", **fields)


def receivers_not_told(death: ProcessGone, why: str) -> None:
    """The receivers of ``process_gone`` did not come to their end. Those that raise are told of where they do."""
    text = f"the receivers of process_gone for the {death.kind} {death.pid}: {why}"
    log.event(logger, logging.ERROR, "hook_failed", text, receiver="process_gone", error=why)


# -- what ``--check`` has found


def fit(title: str) -> None:
    """It would serve."""
    log.event(logger, logging.INFO, "check_passed", f"{title} is fit to serve")


def unfit(error: BootError) -> None:
    """It would not, and why."""
    text = f"does not boot ({error.stage}, {error.module}): {error.reason}"
    fields = {"stage": error.stage, "module": error.module, "traceback": error.traceback}
    log.event(logger, logging.ERROR, "check_failed", text, **fields)
