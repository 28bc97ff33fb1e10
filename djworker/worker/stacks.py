"""Stacks as text: of every greenlet, for an operator who asks what a worker is doing."""

from __future__ import annotations

from typing import cast

from gevent.util import format_run_info


def all_stacks() -> str:
    """The stack of every greenlet and thread of this process."""
    lines = cast("list[str]", format_run_info())
    return "\n".join(lines)
