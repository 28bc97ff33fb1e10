"""Receivers of `connection_created` that look at a request: found by reading what they name, before any of them runs.

A recipe of row-level security has such a receiver put the tenant into the session. Here it runs once for each real connection,
outside of any request, and would put in nothing, or whatever stands for it.
"""

from __future__ import annotations

import contextvars
import inspect
import sys
import threading
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Final

from asgiref.local import Local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: What belongs to one request, thread or greenlet. `threading.local` is gevent's where that has patched.
_KINDS: Final = (contextvars.ContextVar, threading.local, Local)
#: Names of methods that run a statement: a receiver that runs none leaves nothing in the session.
_RUN: Final = frozenset({"execute", "executemany", "callproc", "set_config"})
#: Calls. Deeper than that a receiver's own helpers do not lie, and a reader would not find it either.
_DEPTH: Final = 4
_LIBRARIES: Final = ("django", "djworker", "gevent", "asgiref", "psycopg", "psycopg2", "MySQLdb", "pymysql")


def state_read_by(receiver: Callable[..., object]) -> str:
    """What this receiver reads of a request and may put into a session: `module.name`; empty if nothing is seen."""
    reader = _Reader()
    reader.read(inspect.unwrap(receiver), _DEPTH)
    return reader.found if reader.runs else ""


class _Reader:
    """Follows the names that a function uses."""

    def __init__(self) -> None:
        self.found = ""
        self.runs = False
        self._seen: set[CodeType] = set()

    def read(self, thing: Callable[..., object], depth: int) -> None:
        """Look at a function, a method, or an object that is called like one."""
        function = inspect.unwrap(getattr(thing, "__func__", thing))
        if not isinstance(function, FunctionType):
            function = getattr(type(thing), "__call__", None)  # noqa: B004 - not whether, but what
        if not isinstance(function, FunctionType) or function.__code__ in self._seen or not depth:
            return
        self._seen.add(function.__code__)
        names = frozenset(_names(function.__code__))
        self.runs = self.runs or bool(names & _RUN)
        for name, value in _values(function, names):
            self._look_at(name, value, depth)

    def _look_at(self, name: str, value: object, depth: int) -> None:
        if isinstance(value, _KINDS):
            self.found = self.found or name
        elif isinstance(value, FunctionType) and not value.__module__.startswith(_LIBRARIES):
            self.read(value, depth - 1)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a function, or a comprehension, within
            yield from _names(constant)


def _values(function: FunctionType, names: frozenset[str]) -> Iterator[tuple[str, object]]:
    """What the names stand for: globals, variables of the function around, and members of modules."""
    around = inspect.getclosurevars(function).nonlocals if function.__closure__ else {}
    modules = {name: sys.modules[name] for name in names if name in sys.modules}
    for name, value in {**{name: function.__globals__.get(name) for name in names}, **around, **modules}.items():
        if not isinstance(value, ModuleType):
            yield f"{function.__module__}.{name}", value
        elif not value.__name__.startswith(_LIBRARIES):
            yield from ((f"{value.__name__}.{member}", vars(value)[member]) for member in names & vars(value).keys())
