"""The id of a request, as `X-Request-ID`: that of a proxy that is believed, or one that is made here.

It stands among the request's variables, so that the application, the access log, and what operators are shown have the same.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any, Final

from djworker.log.request_id import enter

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.http.wsgi import WSGIApplication

__all__ = ["VARIABLE", "RequestIds"]

VARIABLE: Final = "HTTP_X_REQUEST_ID"
FIELD: Final = "X-Request-ID"
#: Nothing that has a meaning in a log, a header or a shell; nginx, Heroku, AWS (Root=1-67891233-…) and Envoy make no others.
VALID: Final = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")
#: As nginx's $request_id: 32 hexadecimal digits.
BITS: Final = 128


class RequestIds:
    """[worker] Gives each request its id.

    answers: whether answers tell it, too.
    """

    def __init__(self, *, answers: bool = False) -> None:
        self.answers = answers
        # A generator of its own: a project may seed the common one, and each worker would make the same ids.
        self._bits = random.Random().getrandbits  # noqa: S311 - no secret

    def give(self, environ: dict[str, Any], is_believed: Callable[[], bool]) -> None:
        """Set the id of a request. is_believed: whether the peer may say it; asked only where it does."""
        said = environ.get(VARIABLE)
        if said is None or not VALID.fullmatch(said) or not is_believed():
            environ[VARIABLE] = f"{self._bits(BITS):032x}"

    def around(self, application: WSGIApplication) -> WSGIApplication:
        """The application with the id in its context, and in its answers where that is wanted."""

        def identified(environ: dict[str, Any], start_response: Any) -> Any:
            enter(environ[VARIABLE])
            return application(environ, start_response)

        def answering(environ: dict[str, Any], start_response: Any) -> Any:
            name = environ[VARIABLE]
            enter(name)

            def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
                own = any(field.lower() == "x-request-id" for field, _ in headers)
                return start_response(status, headers if own else [*headers, (FIELD, name)], *more)

            return application(environ, start)

        return answering if self.answers else identified

    @staticmethod
    def named(head: bytes, environ: dict[str, Any]) -> bytes:
        """A head that begins with the id: for the line of a request whose worker is killed."""
        line, _, rest = head.partition(b"\r\n")
        return b"%b\r\n%b: %b\r\n%b" % (line, FIELD.encode(), environ[VARIABLE].encode(), rest)

    def line(self, environ: dict[str, Any]) -> str:
        """The field's line for the server's own answers; empty where answers do not tell."""
        return f"{FIELD}: {environ[VARIABLE]}\r\n" if self.answers and VARIABLE in environ else ""
