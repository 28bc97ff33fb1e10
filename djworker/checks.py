"""System checks: the rules of the option table over ``settings.DJWORKER``, with the same ids as at the start.

Only settings are looked at: the environment and the users of the machine that runs ``manage.py check`` are often those
of a build, not those of the server.
"""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's own name

from djworker.conf import proxies
from djworker.conf.problems import Problem
from djworker.conf.resolve import resolve
from djworker.conf.table import ConfigError

TAG: Final = "djworker"


@register(TAG)
def check_options(app_configs: object = None, **_kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001 - Django's shape
    """Find every problem of ``settings.DJWORKER``."""
    if proxies.served() is not None:  # in a mold, which has told of those of all sources
        return []
    try:
        problems = resolve({}, {}, getattr(settings, "DJWORKER", {}), "project").warnings
    except ConfigError as error:
        problems = error.problems
    return [_message(problem) for problem in problems]


@register(TAG)
def check_proxies(app_configs: object = None, **_kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001 - Django's shape
    """Look at what Django's settings and ours say of proxies, together."""
    try:
        resolved = proxies.served() or resolve({}, {}, getattr(settings, "DJWORKER", {}), "project")
    except ConfigError:
        return []
    found = proxies.problems(resolved, proxies.trusted(settings), redirects=bool(settings.SECURE_SSL_REDIRECT))
    return [_message(problem) for problem in found]


def _message(problem: Problem) -> CheckMessage:
    make = Warning if problem.level == "warning" else Error
    return make(problem.text, hint=problem.hint or None, id=f"djworker.{problem.id}")
