"""Which setting names what does not load: a dotted name is imported by Django, whose own lines are then on the stack."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from djworker.conf import databases
from djworker.mold import blame, rights
from djworker.start.application import suggestion

__all__ = ["described", "naming", "not_installed"]

#: Levels of lists and dicts in a setting: OPTIONS of an entry of TEMPLATES has lists of names.
_DEPTH: Final = 5
#: Frames of an import itself.
_IMPORTS: Final = ("<frozen importlib", importlib.__file__)


#: A word that may be a setting; a module in quotation marks.
_SETTING: Final = re.compile(r"\b[A-Z][A-Z_]{3,}\b")
_MODULE: Final = re.compile(r"'(\w+(?:\.\w+)*)'")
#: Of an application that is named twice.
_LABELS: Final = "Application labels aren't unique"
_NO_PATH: Final = " doesn't look like a module path"


@dataclass(frozen=True, slots=True)
class Named:
    """A setting with the name in it. module: the settings module; error: the one in the chain that says why."""

    setting: str
    value: str
    module: str
    error: BaseException

    def __str__(self) -> str:
        """Say all of it."""
        return f"{self.setting} names {self.value!r}: {blame.sentence(self.error)}"


def described(error: BaseException) -> tuple[str, str]:
    """Return the module to blame, and the reason: with the setting that names it and the remedy, where there are such."""
    named = naming(error)
    module = named.module if named else _spoken_of(error) or blame.module_of(error)
    reason = str(named) if named else f"{_stated(error)}{blame.sentence(error)}"
    return module, "; ".join(filter(None, (reason, _meant(named) or not_installed(error))))


def _meant(named: Named | None) -> str:
    """The remedy for a name that is written wrongly; empty where none is known."""
    if named is None:
        return ""
    if named.setting == "DATABASES":
        return databases.engine_meant(named.value)
    return f"a module is wanted: {module}" if (module := suggestion(named.value)) else ""


def naming(error: BaseException) -> Named | None:
    """Return the setting that names what *error* could not import; None where a line of the project's imports it."""
    if "django.conf" not in sys.modules:  # it went wrong before; what keeps us out may keep Django from being imported
        return None
    from django.conf import settings

    if not settings.configured:
        return None
    for cause in _chain(error):
        missing = _missing(cause)
        if missing and not _is_imported_by_the_project(cause):
            for setting, value in _all_names(settings):
                if value == missing or (isinstance(cause, ImportError) and value.startswith(f"{missing}.")):
                    return Named(setting, value, _settings_module(), cause)
    return None


def not_installed(error: BaseException) -> str:
    """Return the remedy for a module of which no part is there; empty for any other error."""
    root = blame.root_of(error)
    if not isinstance(root, ModuleNotFoundError) or not root.name:
        return ""
    package = root.name.partition(".")[0]
    if rights.complaint(root):  # the remedy is another
        return ""
    if package in sys.modules or importlib.util.find_spec(package) is not None:
        return ""
    return f"install the package that has {package} into {sys.prefix}, or correct the name"


def _settings_module() -> str:
    from django.conf import settings

    return str(getattr(settings, "SETTINGS_MODULE", ""))


def _stated(error: BaseException) -> str:
    """The setting that was being applied, where the error does not say so."""
    frames = [frame for cause in _chain(error) for frame in traceback.extract_tb(cause.__traceback__)]
    if _LABELS in str(error):
        return "INSTALLED_APPS: "
    return "LOGGING: " if any(frame.name == "configure_logging" for frame in frames) else ""


def _spoken_of(error: BaseException) -> str:
    """The module that Django itself speaks of: the settings, where it names one of them, or one of the project's."""
    if "django.conf" not in sys.modules:
        return ""
    from django.conf import settings

    root = blame.root_of(error)
    if not settings.configured or _is_raised_by_the_project(root):
        return ""
    text = str(error)
    if _stated(error) or _LABELS in text or any(hasattr(settings, word) for word in _SETTING.findall(text)):
        return _settings_module()
    named = (sys.modules.get(name) for name in _MODULE.findall(text))
    own = [
        module.__name__ for module in named if module and blame.is_project(getattr(module, "__file__", None) or os.sep)
    ]
    return own[0] if own and not isinstance(root, ImportError) else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """From the first cause to the last word."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    yield from reversed(seen)


def _missing(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return error.name or ""
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        return f"{error.obj.__name__}.{error.name}"
    if isinstance(error, ImportError) and str(error).endswith(_NO_PATH):
        return str(error).removesuffix(_NO_PATH)
    return ""


def _files(error: BaseException) -> list[str]:
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return [name for name in files if not name.startswith(_IMPORTS)]


def _is_imported_by_the_project(error: BaseException) -> bool:
    return any(map(blame.is_project, _files(error)[-1:]))


def _is_raised_by_the_project(error: BaseException) -> bool:
    return not isinstance(error, ImportError) and _is_imported_by_the_project(error)


def _all_names(settings: Any) -> Iterator[tuple[str, str]]:
    for setting in filter(str.isupper, dir(settings)):
        for value in _names(getattr(settings, setting, None)):
            yield setting, value


def _names(value: Any, depth: int = _DEPTH) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, list | tuple | set | frozenset | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _names(item, depth - 1)
