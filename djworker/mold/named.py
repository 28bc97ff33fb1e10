"""[a child of the mold] What the settings name, and Django loads only when a request first needs it.

A page of a deploy may well be answered while every login, every upload and every mail of it fails: the path of a class is
misspelt, its package is not installed, the cache is another machine's. So each is loaded, and what can be asked is asked.
Nothing is written.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

#: Settings that are the dotted path of a class or function, or a list of such. Django's checks look at the others.
_PATHS: Final = (
    "AUTHENTICATION_BACKENDS",
    "DEFAULT_EXCEPTION_REPORTER",
    "DEFAULT_EXCEPTION_REPORTER_FILTER",
    "EMAIL_BACKEND",
    "FILE_UPLOAD_HANDLERS",
    "FORM_RENDERER",
    "MESSAGE_STORAGE",
    "PASSWORD_HASHERS",
)
#: No session, and no entry of a cache, has this key.
_NO_KEY: Final = "djworker.probe"

Question = tuple[str, Callable[[], None]]


def questions() -> Iterator[Question]:
    """What is asked, and how: a question that raises is answered badly. What may wait for the network comes last."""
    from django.conf import settings

    for name in filter(settings.is_overridden, _PATHS):  # Django's own needs applications that may not be installed
        yield f"setting {name}", lambda name=name: _import(_listed(_read(name)))  # type: ignore[misc]
    yield "setting MAILERS", lambda: _import(_mailers(settings))
    yield "setting TEMPLATES", lambda: _import(_context_processors(settings))
    for alias in _storages(settings):
        yield f"storage {alias!r}", lambda alias=alias: _make_storage(alias)  # type: ignore[misc]
    if any("session" in path.lower() for path in settings.MIDDLEWARE):
        yield "sessions", lambda: _ask_sessions(settings)
    for alias in settings.CACHES:
        yield f"cache {alias!r}", lambda alias=alias: _ask_cache(alias)  # type: ignore[misc]


def _read(name: str) -> Any:
    """Django warns when a setting is read that will go, and the project may have made that an error."""
    from django.conf import settings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(settings, name)


def _mailers(settings: Any) -> list[str]:
    """Django 6.1 has several, each with its class."""
    mailers = settings.MAILERS if settings.is_overridden("MAILERS") else {}
    return [mailer["BACKEND"] for mailer in mailers.values() if "BACKEND" in mailer]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _import(paths: list[str]) -> None:
    from django.utils.module_loading import import_string

    for path in paths:
        try:
            import_string(path)
        except ImportError as error:
            raise ImportError(f"{path!r} cannot be imported") from error


def _context_processors(settings: Any) -> list[str]:
    """Django imports them with the first template that is given a request."""
    return [path for engine in settings.TEMPLATES for path in engine.get("OPTIONS", {}).get("context_processors", ())]


def _storages(settings: Any) -> list[str]:
    """Django has an entry for static files in every project; it needs settings of theirs, and is used by their application."""
    from django.apps import apps

    static = apps.is_installed("django.contrib.staticfiles")
    return [alias for alias in settings.STORAGES if static or alias != "staticfiles"]


def _make_storage(alias: str) -> None:
    from django.core.files.storage import storages

    storages[alias]


def _ask_sessions(settings: Any) -> None:
    """Their table may be in another schema than the one that is asked (a tenant's), so no table is read."""
    store = importlib.import_module(settings.SESSION_ENGINE).SessionStore
    model = getattr(store, "get_model_class", None)
    if model is None:
        store().exists(_NO_KEY)
    else:
        model()


def _ask_cache(alias: str) -> None:
    from django.core.cache import caches
    from django.core.cache.backends.db import BaseDatabaseCache

    cache = caches[alias]
    if not isinstance(cache, BaseDatabaseCache):  # whose table may be a tenant's, too
        cache.get(_NO_KEY)
