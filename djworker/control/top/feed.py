"""Asks a server again and again, in threads: what is slow, blocked or gone holds up nothing that is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self

from djworker.control.client import ControlConnection, RefusedError, UnreachableError
from djworker.control.finding import Instance, NoServerError, SeveralServersError
from djworker.control.gathering import ask
from djworker.control.top.figures import View

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Feed"]

#: Seconds for one answer. The server has one second to ask its workers.
TIMEOUT: Final = 4.0
#: Seconds between two attempts to reach a server that does not answer.
RETRY: Final = 0.5
#: What the arbiter knows comes at once; what it asks its workers for takes a second where one of them is blocked or stopped.
_AT_ONCE: Final = ("status",)
_ASKED: Final = ("requests", "pool")


class Feed:
    """[client] The latest answers of one server, or of the one that comes after it.

    Args:
        find: returns the server, anew each time that the last one is gone.
        interval: seconds between two looks.
        changed: is called, in a thread, when there is something new.
    """

    def __init__(self, find: Callable[[], Instance], interval: float, changed: Callable[[], object]) -> None:
        self._find = find
        self._interval = interval
        self._changed = changed
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._answers: dict[str, dict[str, Any]] = {}
        self._trouble = ""
        self._looks = 0

    def __enter__(self) -> Self:
        for verbs in (_AT_ONCE, _ASKED):
            threading.Thread(target=self._ask_for_ever, args=(verbs,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def view(self) -> View:
        """Return what is known now."""
        with self._lock:
            return View(dict(self._answers), self._trouble, self._looks)

    # -- threads ------------------------------------------------------------------------------------------------------

    def _ask_for_ever(self, verbs: tuple[str, ...]) -> None:
        while not self._ended.is_set():
            try:
                with ControlConnection(self._address(), TIMEOUT) as connection:
                    self._ask_while_it_answers(connection, verbs)
            except (UnreachableError, NoServerError, SeveralServersError) as error:
                self._lost(verbs, str(error).splitlines()[0])
            self._ended.wait(RETRY)

    def _address(self) -> str:
        server = self._find()
        if server.refusal:
            raise UnreachableError(server.refusal)
        return server.address

    def _ask_while_it_answers(self, connection: ControlConnection, verbs: tuple[str, ...]) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            for verb in verbs:
                try:
                    self._learned(verb, ask(connection, verb, timeout=TIMEOUT))
                except RefusedError:  # there is no worker to be asked
                    self._learned(verb, {})
            self._ended.wait(max(0.05, began + self._interval - time.monotonic()))

    def _learned(self, verb: str, answer: dict[str, Any]) -> None:
        with self._lock:
            self._answers[verb] = answer
            if verb in _AT_ONCE:
                self._trouble = ""
                self._looks += 1
        self._changed()

    def _lost(self, verbs: tuple[str, ...], reason: str) -> None:
        """What workers said is no longer true; of the server, the last that it has said is shown beside the reason."""
        with self._lock:
            if verbs == _AT_ONCE:
                self._trouble = reason
            else:
                for verb in verbs:
                    self._answers.pop(verb, None)
        self._changed()
