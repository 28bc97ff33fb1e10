"""[mold] Having a generation asked what it answers: by a child, and where no child can answer for it, by this process."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, NoReturn

from djworker import process
from djworker.ipc.contract import PROBE_TIMEOUT
from djworker.mold import forked_call, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djworker.mold.forked_call import Asked
    from djworker.worker.loaded import Project

__all__ = ["ask_here", "begin", "transcript_of", "was_late"]


def begin(project: Project, paths: Sequence[str], hosts: Sequence[str], forsake: Callable[[], object] = bool) -> Asked:
    """Have a child answer, and go on.

    Args:
        project: what is asked.
        paths: of the pages.
        hosts: what the generation in force allows, where it was asked before this one.
        forsake: called in the child, to close what it must not have.

    Raises:
        OSError: there is no process, or no descriptor, for it.
    """

    def answer(write: forked_call.Write) -> None:
        forsake()
        # Pages may need a thread that the project has begun, which no copy of this process has.
        probe.answer(project.app, paths if project.is_shared else (), hosts, write)

    return forked_call.begin(answer, PROBE_TIMEOUT)


def was_late(code: int) -> bool:
    """Whether a child was ended because its time was over. code: as ``os.waitstatus_to_exitcode`` gives it."""
    return code in (-signal.SIGALRM, -signal.SIGKILL)


def transcript_of(asked: Asked, about: int) -> probe.Transcript:
    """Bury the child, and return what it has answered. about: the generation for whose sake it was asked."""
    status = asked.finish()
    transcript = probe.Transcript(about)
    transcript.read(asked.said)
    code = os.waitstatus_to_exitcode(status)
    transcript.close(
        f"no answer within {PROBE_TIMEOUT:g} s" if was_late(code) else f"the process ended: {process.describe(code)}"
    )
    return transcript


def ask_here(
    project: Project,
    paths: Sequence[str],
    hosts: Sequence[str],
    transcript: probe.Transcript,
    deadline: float,
    end: Callable[[], NoReturn],
) -> None:
    """Have this process, which is to become a worker, answer what no copy of it can; where copies can, there is nothing to ask.

    Args:
        project: what is asked.
        paths: of the pages.
        hosts: what the generation in force allows, where it was asked before this one.
        transcript: what the child has answered; it gets the rest.
        deadline: the child's, on the monotonic clock.
        end: tells of the transcript and ends the process, where a page does not let it go on.
    """
    left = deadline - time.monotonic()
    if project.is_shared or left <= 0:
        return
    late = f"no answer within {left:.0f} s"

    def end_late() -> NoReturn:
        transcript.close(late)
        end()

    probe.answer_here(project.app, paths, hosts, transcript.read, left, end_late)
    transcript.close(late)
