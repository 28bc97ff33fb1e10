"""Whether two answers are one: without what is never twice the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.apps.crawler import Visit
from tests.apps.visitor import Answer

#: What is taken out of each body, and what it is.
EVERYWHERE: Final[Mapping[str, str]] = {
    r"\b(?=[0-9a-f]*[g-zA-Z])[A-Za-z0-9]{64}\b": "CSRF tokens",
    r"""(?<=nonce=["'])[^"']+""": "nonces",
    r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?": "dates with a time",
    r"\b\d{1,2}:\d\d(?::\d\d)?(?:[\s\xa0]?[ap]\.?m\b\.?)?": "times of day",
    r"\b\d+[\s\xa0](?:second|minute)s?\b": "ages in seconds and minutes",
    r"\b1[789]\d{8}(?:\.\d+)?\b": "seconds since 1970",
}
#: Of each side.
_LINES_SHOWN: Final = 6


@dataclass(slots=True)
class Comparison:
    """The answers of one run beside those of the reference.

    equal: status, type, location and normalised body. unlike: visits that differ, with how. unstable: visits that differ in
    the body, and that differ between two runs of the reference server itself, with how; their statuses are equal.
    """

    equal: int = 0
    unlike: dict[Visit, str] = field(default_factory=dict)
    unstable: dict[str, str] = field(default_factory=dict)
    unstable_visits: int = 0


class Normaliser:
    """Takes out of a body what is never twice the same."""

    def __init__(self, more: Mapping[str, str] | None = None) -> None:
        """more: an application's own patterns, with what they are."""
        self._patterns = [re.compile(pattern) for pattern in {**EVERYWHERE, **(more or {})}]

    def __call__(self, answer: Answer) -> str:
        """Return the answer as text, all of it that is compared."""
        head = f"{answer.status} {answer.kind} {answer.location}\n"
        text = head + answer.body.decode("latin-1" if _is_binary(answer) else "utf-8", errors="replace")
        for pattern in self._patterns:
            text = pattern.sub("*", text)
        return text


def _is_binary(answer: Answer) -> bool:
    return answer.kind.startswith(("image/", "font/", "application/pdf", "application/octet-stream"))


def compare(
    reference: Mapping[Visit, Answer], again: Mapping[Visit, Answer], tried: Mapping[Visit, Answer], text: Normaliser
) -> Comparison:
    """Compare *tried* with two runs of the reference.

    A page that differs between the two, in whatever client's visit, is unstable: its body says nothing.
    """
    wobbly = {
        visit.path: (one, other)
        for visit in reference
        if (one := text(reference[visit])) != (other := text(again[visit]))
    }
    found = Comparison()
    for visit, answer in sorted(tried.items()):
        one, other = text(answer), text(reference[visit])
        if one in (other, text(again[visit])):
            found.equal += 1
        elif visit.path in wobbly and answer.status in (reference[visit].status, again[visit].status):
            if visit.path not in found.unstable:
                found.unstable[visit.path] = "\n".join(_difference(*wobbly[visit.path]))
            found.unstable_visits += 1
        else:
            found.unlike[visit] = "\n".join(_difference(other, one))
    return found


def _difference(before: str, after: str) -> Iterator[str]:
    """Some lines of each side that the other has not; ``difflib`` takes minutes for a page of a thousand lines."""
    sides = {"-": before.splitlines(), "+": after.splitlines()}
    for (sign, lines), others in zip(sides.items(), map(set, reversed(sides.values())), strict=True):
        own = [line for line in lines if line not in others]
        yield from (f"{sign}{line[:400]}" for line in own[:_LINES_SHOWN])
    if set(sides["-"]) == set(sides["+"]):
        yield "the same lines, in another order or number"
