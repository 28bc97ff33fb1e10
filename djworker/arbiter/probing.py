"""What generations answer when they are probed, and when a new one answers worse than the one in force.

A mold is asked (``djworker.mold.probe``); what it says is read here, and compared. Only two classes of answers are told
apart, good and bad: a page that needs a login, or that is not there, is as good as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from djworker.ipc.contract import SettledQuestion


@dataclass(frozen=True, slots=True)
class Failure:
    """[arbiter] Why a generation is given up: at which step, whose module, what it said."""

    stage: str
    module: str
    error: str
    traceback: str = ""

    def __str__(self) -> str:
        where = ", ".join(filter(None, (self.stage, self.module)))
        return f"{self.error} ({where})"


@dataclass(frozen=True, slots=True)
class Answer:
    """[arbiter] What a generation answers to one question."""

    bad: bool
    text: str
    traceback: str = ""


Answers = Mapping[str, Answer]


def read(answers: Mapping[str, Any]) -> dict[str, Answer]:
    """Read what a mold has sent.

    Raises:
        ValueError: it is something else.
    """
    return {question: _read(answer) for question, answer in answers.items()}


def _read(answer: object) -> Answer:
    match answer:
        case [bool(bad), str(text), str(traceback)]:
            return Answer(bad, text, traceback)
    raise ValueError(f"no answer: {answer!r:.100}")


def bad(answers: Answers) -> dict[str, Answer]:
    """The bad ones."""
    return {question: answer for question, answer in answers.items() if answer.bad}


def worth_telling(answers: Answers) -> dict[str, Answer]:
    """The bad ones that the mold has not told of itself."""
    return {question: answer for question, answer in bad(answers).items() if question not in set(SettledQuestion)}


def best(*told: Answers) -> dict[str, Answer]:
    """To each question a good answer, if there is one."""
    found: dict[str, Answer] = {}
    for answers in told:
        found |= {question: answer for question, answer in answers.items() if question not in found or not answer.bad}
    return found


def worse(measure: Answers | None, answers: Answers) -> dict[str, Answer]:
    """The bad ones of *answers* that *measure* has as good; none where nothing was measured."""
    known = measure or {}
    return {
        question: answer for question, answer in bad(answers).items() if question in known and not known[question].bad
    }


def failure(answers: Answers, measured_by: int) -> Failure:
    """Why a generation with such bad answers is given up; the first one has the word, the others are named.

    measured_by: the generation that answers them well, 0 for none.
    """
    (question, first), *others = answers.items()
    compared = f"; generation {measured_by} answers it well" if measured_by else ""
    also = f"; also {', '.join(name for name, _answer in others)}" if others else ""
    return Failure("probe", question, f"{first.text}{compared}{also}", first.traceback)
