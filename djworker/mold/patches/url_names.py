"""[mold] Have a request's environ know the name of its URL, for the metrics: only Django knows it, and the server counts.

A wrapper around ``resolve_request``, and not a middleware: a middleware of the project's may answer in its place, and
another may choose the URLconf.
"""

from __future__ import annotations

from typing import Any

from djworker.http.recorder import URL_NAME

__all__ = ["install"]


def install() -> None:
    """Note the name of each request's URL from now on."""
    from django.core.handlers.base import BaseHandler

    resolve = BaseHandler.resolve_request

    def resolve_request(self: BaseHandler, request: Any) -> Any:
        match = resolve(self, request)
        request.META[URL_NAME] = match.view_name
        return match

    BaseHandler.resolve_request = resolve_request  # type: ignore[method-assign]
