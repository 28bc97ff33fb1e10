"""Whether the garbage collector runs is the project's choice, though nothing is collected while the project loads.

A collection while modules load would only leave holes in pages that are to be shared, so the mold has disabled it. A
``gc.disable()`` of the project would then change nothing and be forgotten: what it asks for meanwhile is noted, and done in
the worker, and in a process that the project forks meanwhile. Thresholds, callbacks and what is frozen are left as they are in
any case.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["hold", "release"]

_enable: Final = gc.enable
_disable: Final = gc.disable
_is_enabled: Final = gc.isenabled


class _Choice:
    """[mold] What was asked for last. held: it is noted, and not done."""

    held = False
    enabled = True


def hold() -> None:
    """[mold] Collect nothing from now on, and note what the project wants."""
    _Choice.held, _Choice.enabled = True, _is_enabled()
    _disable()
    gc.enable, gc.disable, gc.isenabled = _note_enable, _note_disable, _is_wanted


def release() -> None:
    """[worker, a process that the project forks] Do what the project has chosen; without a choice, collect as Python does."""
    _Choice.held = False
    gc.enable, gc.disable, gc.isenabled = _enable, _disable, _is_enabled
    if _Choice.enabled:
        _enable()


# A project may have imported these by name, and have them in the worker still.


def _note_enable() -> None:
    if not _Choice.held:
        _enable()
    _Choice.enabled = True


def _note_disable() -> None:
    if not _Choice.held:
        _disable()
    _Choice.enabled = False


def _is_wanted() -> bool:
    return _Choice.enabled if _Choice.held else _is_enabled()
