"""The packages with which engines of ``DATABASES`` talk to their servers: what is missing is known before anything starts."""

from __future__ import annotations

import ctypes.util
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from djworker.conf.problems import Problem

__all__ = ["missing"]


@dataclass(frozen=True, slots=True)
class _Library:
    """Names of modules of which one is enough, and how to get one."""

    server: str
    modules: tuple[str, ...]
    hint: str


_POSTGRESQL: Final = _Library("PostgreSQL", ("psycopg", "psycopg2"), "pip install 'djworker[postgres]'")
_MYSQL: Final = _Library("MySQL", ("MySQLdb", "pymysql"), "pip install 'djworker[mysql]', or 'djworker[pymysql]'")
_ORACLE: Final = _Library("Oracle", ("oracledb", "cx_Oracle"), "pip install oracledb")
#: The last part of an engine's name, in whatever package it is.
_BY_ENGINE: Final[Mapping[str, _Library]] = {
    "postgresql": _POSTGRESQL,
    "postgis": _POSTGRESQL,
    "mysql": _MYSQL,
    "oracle": _ORACLE,
}
#: Packages whose engines are known by these names.
_PACKAGES: Final = ("django.", "djworker.")
#: psycopg's own ways to libpq, beside the system's.
_PSYCOPG_IN_C: Final = ("psycopg_binary", "psycopg_c")


def missing(databases: object) -> Iterator[Problem]:
    """Find the aliases whose library is not installed.

    Args:
        databases: `settings.DATABASES`.
    """
    for alias, database in databases.items() if isinstance(databases, Mapping) else ():
        engine = str(database.get("ENGINE", "")) if isinstance(database, Mapping) else ""
        library = _BY_ENGINE.get(engine.rpartition(".")[2]) if engine.startswith(_PACKAGES) else None
        if library is not None and (complaint := _complaint(library)):
            yield Problem("E026", f"database {alias!r} is {library.server}'s, and {complaint}", library.hint)


def _complaint(library: _Library) -> str:
    found = [name for name in library.modules if _is_there(name)]
    if not found:
        return f"neither {' nor '.join(library.modules)} is installed in {sys.prefix}"
    if found == ["psycopg"] and not any(map(_is_there, _PSYCOPG_IN_C)) and ctypes.util.find_library("pq") is None:
        return "psycopg finds no libpq on this machine"
    return ""


def _is_there(name: str) -> bool:
    """A module may stand in for another: ``pymysql.install_as_MySQLdb()``."""
    return name in sys.modules or importlib.util.find_spec(name) is not None
