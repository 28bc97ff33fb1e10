"""The form of ``DATABASES``: Django looks at it only where it loads an engine, and its words do not name the setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from djworker.conf.engine_names import ENGINES, NO_DATABASE
from djworker.conf.problems import Problem
from djworker.conf.slips import ALIKE, did_you_mean

__all__ = ["engine_meant", "malformed"]

_FORM: Final = "write {'default': {'ENGINE': 'django.db.backends.postgresql', 'NAME': ...}}"
#: Engines of Django's and ours.
_KNOWN: Final = (*ENGINES, *ENGINES.values(), "django.db.backends.oracle", "django.contrib.gis.db.backends.spatialite")


def malformed(databases: object) -> Iterator[Problem]:
    """Find what is no dict, and a missing default. No value is shown: a URL of a database has a password in it.

    Args:
        databases: `settings.DATABASES`.
    """
    if not isinstance(databases, Mapping):
        yield Problem("E027", "settings.DATABASES is no dict", _FORM)
        return
    for alias, database in databases.items():
        if not isinstance(database, Mapping):
            hint = f"{_FORM}; dj_database_url.parse() makes one of a URL" if isinstance(database, str) else _FORM
            yield Problem("E027", f"settings.DATABASES[{alias!r}] is no dict", hint)
    if databases and "default" not in databases:
        hint = "Django wants that alias: give one of them this name, or add 'default': {}"
        yield Problem("E027", f"settings.DATABASES has {', '.join(map(str, databases))}, and no 'default'", hint)


def engine_meant(name: str) -> str:
    """Return the remedy for the name of an engine that is not there; empty where nothing is like it."""
    last = name.rpartition(".")[2]
    same = [known for known in _KNOWN if known.rpartition(".")[2] == last and "." not in name]
    return f"did you mean {same[0]}?" if same else did_you_mean(name, (*_KNOWN, NO_DATABASE), ALIKE)
