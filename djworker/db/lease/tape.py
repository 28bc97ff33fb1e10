"""What receivers of `connection_created` did with a physical connection, as it is kept beside that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Statement(NamedTuple):
    """One call of a cursor's method."""

    method: str
    args: tuple[object, ...]
    more: dict[str, object]


@dataclass(slots=True)
class Tape:
    """[worker] What receivers did with one physical connection."""

    statements: list[Statement] = field(default_factory=list)
    #: What their cursors answered: the method or attribute, and its value.
    answers: list[tuple[str, object]] = field(default_factory=list)
    #: What was done that no statement repeats; empty if nothing was.
    beyond: str = ""

    def tell(self, name: str, value: T) -> T:
        """Note an answer, and give it."""
        self.answers.append((name, value))
        return value
