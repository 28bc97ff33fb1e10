"""How many worker processes there will be. The mold knows; `manage.py check` has nothing but the settings to go by."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from djworker.conf.problems import ConfigError
from djworker.conf.resolve import DEFAULT, resolve


@dataclass
class _Told:
    workers: int | None = None


_told = _Told()


def expect(workers: int) -> None:
    """[mold] So many will be started."""
    _told.workers = workers


def workers() -> int:
    """The number, or 1 where it is not said: the processors of the machine that checks are not those of the server."""
    if _told.workers is not None:
        return _told.workers
    try:
        found = resolve({}, {}, getattr(settings, "DJWORKER", {}), "project")
    except ConfigError:  # told by the check of the options
        return 1
    return 1 if found.sources["workers"] == DEFAULT else found.config.workers
