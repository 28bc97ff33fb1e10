"""A program is plain data: a list of steps, some of which have steps inside. It is made from a seed and can be made smaller."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.db.contract.fuzz.kinds import Kind

#: Steps of a program, without those inside others. Long enough for state to meet other state, short enough to be read.
LONGEST = 14
#: Steps inside a block, and blocks inside blocks.
WIDEST, DEEPEST = 5, 3


@dataclass(frozen=True)
class Step:
    """One deed. `swallow`: its exception is caught and forgotten, as careless code does."""

    kind: str
    args: tuple[Any, ...] = ()
    body: tuple[Step, ...] = ()
    swallow: bool = True

    def __repr__(self) -> str:
        parts = [repr(self.kind)]
        if self.args:
            parts.append(f"args={self.args!r}")
        if self.body:
            parts.append(f"body={self.body!r}")
        if not self.swallow:
            parts.append("swallow=False")
        return f"Step({', '.join(parts)})"


Program = tuple[Step, ...]


@dataclass(frozen=True)
class Maker:
    """Draws programs from these kinds."""

    rng: random.Random
    kinds: tuple[Kind, ...]

    def program(self) -> Program:
        """The steps of one request, or of several one after the other."""
        return self._steps(self.rng.randint(3, LONGEST), 0)

    def _steps(self, number: int, depth: int) -> Program:
        kinds = [kind for kind in self.kinds if depth < DEEPEST or not kind.block]
        weights = [kind.weight for kind in kinds]
        return tuple(self._step(kind, depth) for kind in self.rng.choices(kinds, weights, k=number))

    def _step(self, kind: Kind, depth: int) -> Step:
        inside = self.rng.randint(1, 1 if kind.block == 1 else WIDEST) if kind.block else 0
        return Step(
            kind.name,
            args=kind.make(self.rng),
            body=self._steps(inside, depth + 1) if inside else (),
            swallow=self.rng.random() < 0.85,
        )


def smaller(programs: tuple[Program, ...]) -> Iterator[tuple[Program, ...]]:
    """The same programs with one of them, or one step, left out; big pieces first."""
    if len(programs) > 1:
        for place in range(len(programs)):
            yield (*programs[:place], (), *programs[place + 1 :]) if programs[place] else programs
    for place, program in enumerate(programs):
        for less in _less(program):
            yield (*programs[:place], less, *programs[place + 1 :])


def _less(program: Program) -> Iterator[Program]:
    size = len(program) // 2
    while size:
        for start in range(0, len(program), size):
            yield program[:start] + program[start + size :]
        size //= 2
    for place, step in enumerate(program):
        if step.body:
            yield program[:place] + step.body + program[place + 1 :]
            for body in _less(step.body):
                if body:
                    yield (*program[:place], replace(step, body=body), *program[place + 1 :])


def shrink(
    programs: tuple[Program, ...], fails: Callable[[tuple[Program, ...]], bool], until: Callable[[], bool]
) -> tuple[Program, ...]:
    """The smallest programs found that still fail."""
    again = True
    while again and not until():
        again = False
        for fewer in smaller(programs):
            if until():
                break
            if fewer != programs and fails(fewer):
                programs, again = fewer, True
                break
    return programs


def shown(programs: tuple[Program, ...]) -> str:
    """The programs as lines that can be pasted into a test."""
    lines = ["("]
    for program in programs:
        lines += ["    (", *(f"        {step!r}," for step in program), "    ),"]
    return "\n".join([*lines, ")"])
