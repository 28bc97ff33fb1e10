"""Questions to workers, for control clients: asked of many at once, answered within a deadline or not at all."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Final

from djworker.arbiter import report
from djworker.arbiter.handles import WorkerState
from djworker.ipc import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from djworker.arbiter.child import Child
    from djworker.arbiter.children import Children
    from djworker.arbiter.control import Client, Tell
    from djworker.arbiter.handles import WorkerHandle

#: Seconds for a worker to answer. Its hub has a quarter of one, then a thread takes over.
TIME: Final = 1.0
#: Characters that one worker may answer; its own limit is half of that.
MOST_TEXT: Final = 1024 * 1024


@dataclass(slots=True)
class OpenQuestion:
    """[arbiter] One client's question. due: the workers that have not answered yet; told: what is said of each at the end."""

    client: Client
    number: int
    deadline: float
    due: set[int] = field(default_factory=set)
    told: dict[int, dict[str, Any]] = field(default_factory=dict)
    heard: dict[int, int] = field(default_factory=dict)
    #: Told of the last part of each answer.
    hears: Callable[[str], None] | None = None


class Questions:
    """[arbiter] What is asked of workers, and not answered yet."""

    def __init__(self, children: Children, tell: Tell) -> None:
        self._children = children
        self._tell = tell
        self._asked: dict[int, OpenQuestion] = {}
        self._numbers = count(1)

    def ask(
        self,
        client: Client,
        workers: Iterable[WorkerHandle],
        about: str,
        arguments: Mapping[str, Any],
        hears: Callable[[str], None] | None = None,
    ) -> None:
        """Ask workers; the client gets what they say as it comes, and who did not answer at the end.

        Args:
            client: who wants to know.
            workers: who is asked.
            about: the verb.
            arguments: the verb's.
            hears: told of the last part of each answer.
        """
        asked = OpenQuestion(client, next(self._numbers) & messages.HIGHEST_ID, time.monotonic() + TIME, hears=hears)
        self._asked[asked.number] = asked
        for worker in sorted(workers, key=lambda worker: (worker.slot, worker.worker_id)):
            child = self._children.by_key.get(("worker", worker.worker_id))
            asked.told[worker.worker_id] = {
                "worker": worker.worker_id,
                **report.named(worker, child),
                "answered": False,
            }
            note = self._send(child, worker, asked, messages.WorkerAsked(asked.number, about, dict(arguments)))
            asked.told[worker.worker_id]["note"] = note
        self._end_if_over(asked)

    def _send(
        self, child: Child | None, worker: WorkerHandle, asked: OpenQuestion, question: messages.WorkerAsked
    ) -> str:
        """Say why it cannot be asked; nothing where it is."""
        if worker.state is WorkerState.STARTING:
            return "it starts"
        if child is None or child.channel is None:
            return "it ends"
        child.intake.grant()
        if not child.channel.send(question):
            return "it does not answer: it has not read earlier messages"
        asked.due.add(worker.worker_id)
        return ""

    def forget(self, client: Client) -> None:
        """It is gone."""
        self._asked = {number: asked for number, asked in self._asked.items() if asked.client is not client}

    def hear(self, worker_id: int, said: messages.WorkerAnswered) -> None:
        """A worker has answered. An answer to no question, or to one that is over, is let pass: it may be late."""
        asked = self._asked.get(said.number)
        if asked is None or worker_id not in asked.due:
            return
        length = asked.heard[worker_id] = asked.heard.get(worker_id, 0) + len(said.text)
        if length > MOST_TEXT:
            asked.due.discard(worker_id)
            asked.told[worker_id]["note"] = f"its answer has more than {MOST_TEXT} characters"
        else:
            self._tell(asked.client, "piece", worker=worker_id, text=said.text)
            if said.last and asked.hears is not None:
                asked.hears(said.text)
            if said.last:
                asked.due.discard(worker_id)
                asked.told[worker_id]["answered"] = True
        self._end_if_over(asked)

    def worker_gone(self, worker_id: int) -> None:
        """It has ended, and answers nothing any more."""
        for asked in [asked for asked in self._asked.values() if worker_id in asked.due]:
            asked.due.discard(worker_id)
            asked.told[worker_id]["note"] = "it has ended"
            self._end_if_over(asked)

    def next_deadline(self) -> float:
        """When ``serve_deadlines`` is due."""
        return min((asked.deadline for asked in self._asked.values()), default=inf)

    def serve_deadlines(self, now: float) -> None:
        """End what was not answered in time."""
        for asked in [asked for asked in self._asked.values() if asked.deadline <= now]:
            for worker_id in asked.due:
                asked.told[worker_id]["note"] = f"it does not answer{_why(asked.told[worker_id]['pid'])}"
            asked.due.clear()
            self._end_if_over(asked)

    def _end_if_over(self, asked: OpenQuestion) -> None:
        if not asked.due and self._asked.pop(asked.number, None) is not None:
            self._tell(asked.client, "result", workers=list(asked.told.values()))


def _why(pid: int) -> str:
    """What the kernel says of a process that is silent; see proc(5) for the letters."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            state = file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
    return {"T": ": it is stopped (SIGSTOP)", "t": ": a debugger has stopped it", "D": ": it waits for a disk"}.get(
        state, f" within {TIME:g} s"
    )
