"""What a receiver of `connection_created` does with a connection: recorded once, repeated without the receiver.

A receiver runs when a physical connection has been made. Three things are learnt then: the statements that it ran, which
are repeated after each wipe of the session; the rows that it read, which answer it when it is called again for its changes to a
Django connection alone; and whether it went past Django to the client library, where nothing can be repeated.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Self

from djworker.db.lease.tape import Statement

if TYPE_CHECKING:
    from types import FrameType

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.utils import CursorWrapper

    from djworker.db.lease.tape import Tape

_RUNS: Final = frozenset({"execute", "executemany", "callproc"})
_READS: Final = frozenset({"fetchone", "fetchmany", "fetchall"})
_TELLS: Final = frozenset({"description", "rowcount", "lastrowid", "arraysize"})
#: They neither leave anything behind nor tell anything.
_HARMLESS: Final = frozenset({"close", "db", "wrap_database_errors"})
#: What the client library knows of the server is asked of the real connection.
_OF_SERVER: Final = frozenset({"info", "server_version", "get_server_info"})
#: Django looks at the client library's object for its own ends, and so do we.
_INSIDE: Final = ("django.", "djworker.")
_PROXY: Final = "django.utils.connection"


class NotRecorded(Exception):
    """A receiver asks for something that it did not ask for when it was recorded."""


# -- the recording ----------------------------------------------------------------------------------------------------


class RecordingCursor:
    """[worker] Django's cursor, looked at."""

    def __init__(self, cursor: CursorWrapper, wrapper: BaseDatabaseWrapper | _Watched, tape: Tape) -> None:
        self._cursor: Any = cursor
        self._wrapper = wrapper
        self._tape = tape

    def _run(self, method: str, *args: Any, **more: object) -> object:
        if method == "executemany" and len(args) > 1:
            args = (args[0], list(args[1]), *args[2:])
        if self._wrapper.in_atomic_block:
            self._tape.beyond = self._tape.beyond or "runs a transaction"
        result = getattr(self._cursor, method)(*args, **more)
        self._tape.statements.append(Statement(method, args, more))
        return result

    def __getattr__(self, name: str) -> Any:
        if name in _RUNS:
            return functools.partial(self._run, name)
        value = getattr(self._cursor, name)
        if name in _READS:
            return lambda *args, **more: self._tape.tell(name, value(*args, **more))
        if name in _TELLS:
            return self._tape.tell(name, value)
        if name not in _HARMLESS:
            self._tape.beyond = self._tape.beyond or f"uses cursor.{name}"
        return value

    def __iter__(self) -> Iterator[object]:
        return iter(self._tape.tell("__iter__", list(self._cursor)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._cursor.__exit__(*error)


class _Watched:
    """[worker] A Django connection on a physical one, while a receiver has it."""

    _tape: Tape
    in_atomic_block: bool

    @property
    def connection(self) -> Any:
        """The physical connection. Code that is neither Django's nor the engine's own may do anything with it."""
        self._note(sys._getframe(1))  # noqa: SLF001 - who asks is the question
        return self.__dict__["connection"]

    @connection.setter
    def connection(self, value: object) -> None:
        self._note(sys._getframe(1))  # noqa: SLF001 - the caller is the question
        self.__dict__["connection"] = value

    def _note(self, frame: FrameType) -> None:
        name = frame.f_globals.get("__name__", "")
        if name == _PROXY and frame.f_back is not None and frame.f_back.f_globals.get("__name__") != _PROXY:
            name = frame.f_back.f_globals.get("__name__", "")
        if not name.startswith(_INSIDE) and name not in {cls.__module__ for cls in type(self).__mro__}:
            self._tape.beyond = self._tape.beyond or "uses connection.connection"

    def make_cursor(self, cursor: CursorWrapper) -> object:
        """Django's, recorded."""
        return RecordingCursor(super().make_cursor(cursor), self, self._tape)  # type: ignore[misc]

    def make_debug_cursor(self, cursor: CursorWrapper) -> object:
        """Django's, recorded."""
        return RecordingCursor(super().make_debug_cursor(cursor), self, self._tape)  # type: ignore[misc]


# -- the repetition ---------------------------------------------------------------------------------------------------


class _Nothing:
    """[worker] The answer to calls of the client library whose effect is there already."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> Any:
        return self

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Iterator[object]:
        return iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class _RecordedCursor(_Nothing):
    """[worker] Runs nothing, and answers as the cursor did that was recorded."""

    def __init__(self, answers: Iterator[tuple[str, object]]) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if name in _READS:
            return lambda *_, **__: self._next(name)
        if name in _TELLS:
            return self._next(name)
        if name in _RUNS:
            return lambda *_, **__: None
        return super().__getattr__(name)

    def __iter__(self) -> Iterator[object]:
        return iter(self._next("__iter__"))

    def _next(self, name: str) -> Any:
        recorded, value = next(self._answers, ("", None))
        if recorded != name:
            raise NotRecorded(name)
        return value


class _StandIn(_Nothing):
    """[worker] In place of the client library's connection."""

    def __init__(self, lease: object, answers: Iterator[tuple[str, object]]) -> None:
        self._lease = lease
        self._answers = answers

    def cursor(self, *_: object, **__: object) -> _RecordedCursor:
        """One that runs nothing."""
        return _RecordedCursor(self._answers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name) if name in _OF_SERVER else super().__getattr__(name)


class _Silent:
    """[worker] A Django connection on a lease, while a receiver has it whose statements have been run."""

    queries_logged = False
    _stand_in: _StandIn

    @property
    def connection(self) -> Any:
        """Something on which nothing happens."""
        return self._stand_in

    @connection.setter
    def connection(self, value: object) -> None:
        """The physical connection has been replaced when it was made."""


# -- for a moment -----------------------------------------------------------------------------------------------------


@functools.cache
def _made(kind: Any, cls: Any) -> Any:
    """The class of a Django connection for that time, by the same name. A class is made once for each engine."""
    return type(cls.__name__, (kind, cls), {"__module__": cls.__module__})


class As:
    """[worker] A context manager: the Django connection is of another class for that time.

    Not its attributes are exchanged: what a receiver takes from it (`original = connection.cursor`) goes on to work afterwards.
    """

    def __init__(self, wrapper: BaseDatabaseWrapper, kind: type, **attributes: object) -> None:
        self._wrapper = wrapper
        self._kind = kind
        self._attributes = attributes
        self._cls: Any = type(wrapper)

    def __enter__(self) -> None:
        vars(self._wrapper).update(self._attributes)
        self._wrapper.__class__ = _made(self._kind, self._cls)

    def __exit__(self, *_: object) -> None:
        self._wrapper.__class__ = self._cls
        for name in self._attributes:
            del self._wrapper.__dict__[name]


def recorded(wrapper: BaseDatabaseWrapper, tape: Tape) -> As:
    """What is done with this Django connection, which is on a physical one, is noted on the tape."""
    return As(wrapper, _Watched, _tape=tape)


def silent(wrapper: BaseDatabaseWrapper, answers: list[tuple[str, object]]) -> As:
    """What is done with this Django connection, which is on a lease, does nothing but change the connection object."""
    return As(wrapper, _Silent, _stand_in=_StandIn(vars(wrapper)["connection"], iter(answers)))
