"""Engines of other packages that are built on Django's: the same engine on a lease, where that can be done safely.

Our part is put above the package's class, as a lease stands between Django and a physical connection: what the package does to
connections (`get_new_connection`, `init_connection_state`, `create_cursor`) it goes on doing, to physical ones.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final, cast

from djworker.conf.engine_names import ENGINES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

#: Django's modules that make connections, and what takes the place of each.
STOCK: Final = {f"{name}.base": ours for name, ours in ENGINES.items()}
#: A lease decides these; an engine that decides them too has a life of connections in mind that is not ours.
_DECIDED: Final = frozenset(
    """_close _set_autocommit is_usable close_if_unusable_or_obsolete close_if_health_check_failed ensure_connection pool
    close_pool validate_thread_sharing _commit _rollback""".split()  # noqa: SIM905 - words are read more easily than quoted ones
)
#: These may be extended, and not replaced: ours does a part of the work.
_EXTENDED: Final = frozenset({"connect", "get_new_connection", "close", "commit", "rollback"})


def base_of(cls: type) -> str:
    """Our engine for the engine of Django's that this class is built on, or is; empty if it is built on none."""
    if _is_ours(cls):
        return ""
    return next((STOCK[each.__module__] for each in cls.__mro__ if each.__module__ in STOCK), "")


def objection(cls: type) -> str:
    """What keeps this class from being put on a lease; empty if nothing does."""
    for each in _own_classes(cls):
        for name in sorted(vars(each).keys() & (_DECIDED | _EXTENDED)):
            if name in _DECIDED or not _goes_on(vars(each)[name]):
                return f"{each.__module__}.{each.__qualname__} has its own {name}()"
    return ""


def wrapped(cls: type, engine: str) -> type:
    """The class on a lease, with the parts of that engine of ours.

    Raises:
        TypeError: its bases cannot be put in one order with ours.
    """
    ours = importlib.import_module(f"{engine}.base")
    if cls.__module__ in STOCK:  # a package that has no class of its own, and gives Django's by its name
        return cast("type", ours.DatabaseWrapper)
    around = ours.AROUND
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (around[0], cls, *around[1:]), names)


def with_class(module: ModuleType, cls: type) -> ModuleType:
    """The engine's module, as Django looks at it, with another class."""
    other = type(module)(module.__name__, module.__doc__)
    vars(other).update({**vars(module), "DatabaseWrapper": cls})
    return other


def _is_ours(cls: type) -> bool:
    return any(each.__module__.startswith("djworker.db.backends.") for each in cls.__mro__)


def _own_classes(cls: type) -> Iterator[type]:
    """What the package adds. Django's own engines build on each other (SpatiaLite on SQLite), and are no strangers."""
    return (each for each in cls.__mro__ if each is not object and not each.__module__.startswith("django."))


def _goes_on(attribute: object) -> bool:
    """Whether a method calls the one that it stands in front of."""
    function = getattr(attribute, "__wrapped__", attribute)
    code = getattr(function, "__code__", None)
    return code is not None and "super" in code.co_names
