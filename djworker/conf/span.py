"""A number that may vary: ``2..8`` workers."""

from __future__ import annotations

from typing import Self

__all__ = ["Span"]


class Span(int):
    """The most of something, with the least beside it. Where only a number is asked for, the most is the safe answer."""

    least: int

    def __new__(cls, least: int, most: int) -> Self:
        """Make it of both ends."""
        made = super().__new__(cls, most)
        made.least = least
        return made

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]  # int's own has one number
        return self.least, int(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and int(self) == int(other) and self.least == getattr(other, "least", int(other))

    def __ne__(self, other: object) -> bool:
        return not self == other  # int has one of its own

    def __hash__(self) -> int:
        return hash((self.least, int(self)))

    def __str__(self) -> str:
        return f"{self.least}..{int(self)}"

    def __repr__(self) -> str:
        return f"Span({self.least}, {int(self)})"
