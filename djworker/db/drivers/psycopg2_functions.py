"""psycopg2's functions in C that take a connection or a cursor, for objects that stand for one.

They look at the type in memory and refuse everything else. What stands for a connection gives the real one out instead, as
far as the function needs it: to read from, or to keep something in it.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg2.extras  # noqa: F401 - with all modules that are named below: none is left to be imported by a native thread
from psycopg2 import extensions, sql

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

#: Each function, whether it keeps something in the connection, and the modules that have it under this name.
_FUNCTIONS: Final = {
    "register_type": (True, ("psycopg2.extensions", "psycopg2._json", "psycopg2._range", "psycopg2._ipaddress")),
    "quote_ident": (False, ("psycopg2.extensions", "psycopg2.extras")),
    "encrypt_password": (False, ("psycopg2.extensions",)),
}
#: The method of an object that stands for a connection or a cursor: (function, keeps=…) -> the real one.
METHOD: Final = "psycopg2_object"


def install() -> None:
    """Let these functions take what stands for a connection. Once is enough."""
    if hasattr(extensions.quote_ident, "__wrapped__"):
        return
    for name, (keeps, modules) in _FUNCTIONS.items():
        wrapped = _given_the_real_one(getattr(extensions, name), keeps=keeps)
        for module in modules:
            setattr(importlib.import_module(module), name, wrapped)
    sql.Literal.as_string = _given_the_real_one(sql.Literal.as_string, keeps=False)  # type: ignore[method-assign]


def _given_the_real_one(function: Callable[..., R], *, keeps: bool) -> Callable[..., R]:
    name = function.__name__

    def real(value: object) -> object:
        give = getattr(type(value), METHOD, None)  # of the type: a proxy would answer for any name
        return value if give is None else give(value, name, keeps=keeps)

    @functools.wraps(function)
    def call(*args: object, **more: object) -> R:
        return function(*map(real, args), **{key: real(value) for key, value in more.items()})

    return call
