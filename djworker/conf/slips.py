"""Slips of the pen: which known word was meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

__all__ = ["ALIKE", "did_you_mean"]

#: How alike a long name and a known one must be, for a slip to be likely (1.0: the same).
ALIKE: Final = 0.75


def did_you_mean(word: str, words: Sequence[str], alike: float = 0.6) -> str:
    """Return "did you mean X?" where one of the words is close, else nothing.

    alike: as `ALIKE`; the default is difflib's own.
    """
    close = difflib.get_close_matches(word, words, n=1, cutoff=alike)
    return f"did you mean {close[0]}?" if close else ""
