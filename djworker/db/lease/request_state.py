"""Receivers of `connection_created` that look at a request: found by reading what they name, before any of them runs.

A recipe of row-level security has such a receiver put the tenant into the session. Here it runs once for each real connection,
outside of any request, and would put in nothing, or whatever stands for it.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys
import threading
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from asgiref.local import Local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: What belongs to one request, thread or task. `threading.local` is gevent's where that has patched.
_KINDS: Final = (contextvars.ContextVar, threading.local, Local)
#: What is called, or reads, and the function behind it.
_CALLED: Final = (
    *(FunctionType, MethodType, functools.partial, functools._lru_cache_wrapper),  # noqa: SLF001 - it has no other name
    *(classmethod, staticmethod, property),
)
#: Methods that are called without their name: `str(tenant)` of an object that stands for another one.
_UNNAMED: Final = frozenset({"__call__", "__getattr__", "__getitem__", "__str__"})
#: Names of methods that run a statement: a receiver that runs none leaves nothing in the session.
_RUN: Final = frozenset({"execute", "executemany", "callproc", "set_config"})
#: Calls. Deeper than that a receiver's own helpers do not lie, and a reader would not find it either.
_DEPTH: Final = 4
#: Packages into which no name is followed. Those that observe look at a request for their own ends.
_LIBRARIES: Final = frozenset(
    """django djworker gevent asgiref psycopg psycopg2 MySQLdb pymysql
    opentelemetry sentry_sdk structlog ddtrace newrelic elasticapm prometheus_client""".split()  # noqa: SIM905 - words are read more easily than quoted ones
).union(sys.stdlib_module_names)


def state_read_by(receiver: Callable[..., object]) -> str:
    """What this receiver reads of a request and may put into a session: `module.name`; empty if nothing is seen."""
    reader = _Reader()
    reader.read(inspect.unwrap(receiver), _DEPTH)
    return reader.found if reader.runs else ""


def _is_local(value: object) -> bool:
    """Whether it belongs to one request. gevent is not loaded for the question: the system checks of `migrate` ask it, too."""
    gevent_local = sys.modules.get("gevent.local")
    return isinstance(value, _KINDS) or (gevent_local is not None and isinstance(value, gevent_local.local))


class _Reader:
    """Follows the names that a function uses."""

    def __init__(self) -> None:
        self.found = ""
        self.runs = False
        self._seen: set[CodeType] = set()

    def read(self, thing: Any, depth: int, owner: object = None) -> None:
        """Look at a function, a method, or an object that is called like one. owner: the object or class that has it."""
        if isinstance(thing, functools.partial):
            for value in (*thing.args, *thing.keywords.values()):
                self._look_at("an argument of functools.partial", value, depth)
            self.read(thing.func, depth)
            return
        function, owner = _function_of(thing, owner)
        if function is None or function.__code__ in self._seen or not depth:
            return
        self._seen.add(function.__code__)
        names = frozenset(_names(function.__code__))
        self.runs = self.runs or bool(names & _RUN)
        for name, value in _values(function, names):
            self._look_at(name, value, depth, names)
        if owner is not None:
            self._look_into(f"{function.__module__}.{function.__qualname__.partition('.')[0]}", owner, depth, names)

    def _look_at(
        self, name: str, value: object, depth: int, names: frozenset[str] = frozenset(), owner: object = None
    ) -> None:
        if _is_local(value) or value is contextvars.copy_context:
            self.found = self.found or name
        elif isinstance(value, _CALLED):
            self.read(value, depth - 1, owner)
        elif isinstance(value, dict):
            if any(map(_is_local, value.values())):
                self.found = self.found or name
        elif not _is_of_library(value if isinstance(value, type) else type(value)):
            self._look_into(name, value, depth, names | _UNNAMED)

    def _look_into(self, name: str, owner: object, depth: int, names: frozenset[str]) -> None:
        """Members of a class or an object. None of its code is run for that."""
        for member in names if depth else ():
            value = inspect.getattr_static(owner, member, None)
            if value is not None:
                self._look_at(f"{name}.{member}", value, depth - 1, names, owner)


def _function_of(thing: Any, owner: object) -> tuple[FunctionType | None, object]:
    """What runs when the thing is called or read, and whose it is."""
    if isinstance(thing, property):
        thing = thing.fget
    elif isinstance(thing, MethodType):
        owner = thing.__self__
    function = inspect.unwrap(getattr(thing, "__func__", thing))
    if not isinstance(function, FunctionType):
        owner, function = thing, inspect.getattr_static(type(thing), "__call__", None)
    if not isinstance(function, FunctionType) or _is_of_library(function):
        return None, owner
    return function, owner


def _is_of_library(thing: Any) -> bool:
    return str(getattr(thing, "__module__", None) or "builtins").partition(".")[0] in _LIBRARIES


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a function, or a comprehension, within
            yield from _names(constant)


def _values(function: FunctionType, names: frozenset[str]) -> Iterator[tuple[str, object]]:
    """What the names stand for: globals, variables of the function around, its defaults, and members of modules."""
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield f"an argument of {function.__module__}.{function.__qualname__}", value
    around = inspect.getclosurevars(function).nonlocals if function.__closure__ else {}
    modules = {name: sys.modules[name] for name in names if name in sys.modules}  # imported within
    of_module = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, value in {**modules, **of_module, **around}.items():
        if isinstance(value, ModuleType):
            yield from _members(value, names)
        else:
            yield f"{function.__module__}.{name}", value


def _members(module: ModuleType, names: frozenset[str]) -> Iterator[tuple[str, object]]:
    """Of a module and its submodules."""
    if module is not contextvars and module.__name__.partition(".")[0] in _LIBRARIES:
        return
    for member in names & vars(module).keys():
        value = vars(module)[member]
        if not isinstance(value, ModuleType):
            yield f"{module.__name__}.{member}", value
        elif value.__name__.startswith(f"{module.__name__}."):
            yield from _members(value, names)
