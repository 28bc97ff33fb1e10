"""[mold] Doing now what Django would do in the first requests, so that workers share it and no client waits for it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from djworker import log
from djworker.mold import asking

logger = logging.getLogger("djworker.mold")

#: Templates of third-party applications are loaded too, but no project is made to wait for thousands of them.
_MOST_TEMPLATES: Final = 1000
#: Of an object, in its repr.
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")
_SUFFIXES: Final = (".html", ".txt", ".xml", ".svg", ".json", ".js")


class WarmUpError(Exception):
    """A path that was to be warmed up answers with an error."""


def load_urlconf() -> None:
    """Import every URLconf and with it every view."""
    from django.conf import settings
    from django.urls import get_resolver

    if getattr(settings, "ROOT_URLCONF", None):
        _descend(get_resolver().url_patterns, settings.ROOT_URLCONF)


def _descend(patterns: Sequence[Any], module: object) -> None:
    from django.core.exceptions import ImproperlyConfigured

    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            included = getattr(pattern, "urlconf_name", module)
            _descend(pattern.url_patterns, module if isinstance(included, list | tuple) else included)
        elif not hasattr(type(pattern), "callback") and not hasattr(pattern, "callback"):
            name = str(getattr(module, "__name__", module))
            shown = _ADDRESS.sub("", repr(pattern))
            text = f"urlpatterns of {name!r} has {shown:.80}, which is neither path() nor re_path()"
            raise ImproperlyConfigured(text)
        else:
            pattern.callback  # noqa: B018 - a string until it is looked at, in old URLconfs


def load_templates() -> None:
    """Compile every template file into the cache of its engine.

    A template that does not compile is logged, not fatal: it may belong to an application's optional feature.
    """
    from django.template import TemplateDoesNotExist, TemplateSyntaxError, engines

    for engine in engines.all():
        for name in _template_names(engine.template_dirs):
            try:
                engine.get_template(name)
            except (TemplateDoesNotExist, TemplateSyntaxError, UnicodeDecodeError, ImportError) as error:
                log.event(logger, logging.DEBUG, "template_skipped", f"{name}: {error}")


def _template_names(directories: Sequence[Any]) -> Iterator[str]:
    left = _MOST_TEMPLATES
    for directory in directories:
        for folder, _folders, files in os.walk(directory):
            for file in sorted(files):
                if file.endswith(_SUFFIXES):
                    yield os.path.relpath(os.path.join(folder, file), directory)
                    left -= 1
                    if not left:
                        return


def request_paths(app: Callable[..., Any], paths: Sequence[str]) -> None:
    """Request each path through the whole application.

    Raises:
        WarmUpError: an answer with a status of 500 and above; its cause is what the view raised.
    """
    for path in paths:
        reply = asking.get(app, path)
        if reply.status.startswith("5"):
            raise WarmUpError(f"{path} answers {reply}") from reply.error
