"""[mold] The steps of loading: each has a name, and a failure says which step, whose module, and why."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from djworker.ipc import messages
from djworker.mold import blame, cleanup, named_settings, rights, taken_ports

__all__ = ["BootError", "current", "stage"]


class BootError(Exception):
    """A generation that cannot serve."""

    def __init__(self, stage: str, module: str, reason: str, text: str = "") -> None:
        """Make it.

        Args:
            stage: the step that failed.
            module: what is to blame, as far as that is known.
            reason: in a sentence.
            text: a traceback.
        """
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.module = module
        self.reason = reason
        self.traceback = text

    def as_message(self) -> messages.MoldFailed:
        """For the arbiter."""
        return messages.MoldFailed(self.stage, self.module, self.reason, messages.tail(self.traceback))


class _Progress:
    """[mold] How far loading is: the arbiter asks where it takes too long."""

    stage = "start"


def current() -> str:
    """The name of the step that loading is at."""
    return _Progress.stage


@contextmanager
def stage(name: str, spared: type[Exception] = BootError) -> Iterator[None]:
    """Name a step: a failure in here is this one's. The database connections that it leaves behind are closed.

    Args:
        name: of the step.
        spared: errors that say everything themselves.

    Raises:
        BootError: it has failed.
    """
    _Progress.stage = name
    try:
        yield
        cleanup.close_connections()
    except (BootError, spared):
        raise
    except Exception as error:
        module, reason = named_settings.described(error)
        raise BootError(name, module, _with_remedies(reason, error), traceback.format_exc()) from error
    except SystemExit as error:  # a settings module that calls sys.exit()
        raise BootError(name, blame.module_of(error), f"sys.exit({error.code!r})", traceback.format_exc()) from error


def _with_remedies(reason: str, error: BaseException) -> str:
    root = blame.root_of(error)
    return "; ".join(filter(None, (reason, rights.complaint(root), taken_ports.remedy(root))))
