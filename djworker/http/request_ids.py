"""The id of a request, as `X-Request-ID`: that of a proxy that is believed, or one that is made here.

It stands among the request's variables, so that the application, the access log, and what operators are shown have the same.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any, Final

from djworker.http.wsgi import ID_FIELD
from djworker.log.request_id import enter

if TYPE_CHECKING:
    from collections.abc import Callable

    from djworker.http.wsgi import Exchange, WSGIApplication

__all__ = ["VARIABLE", "RequestIds"]

VARIABLE: Final = "HTTP_X_REQUEST_ID"
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

    def give(self, exchange: Exchange, is_believed: Callable[[], bool]) -> None:
        """Set the id of a request. is_believed: whether the peer may say it; asked only where it does."""
        environ = exchange.environ
        said = environ.get(VARIABLE)
        if said is None or not VALID.fullmatch(said) or not is_believed():
            said = environ[VARIABLE] = f"{self._bits(BITS):032x}"
        if self.answers:
            exchange.id_to_tell = said

    @staticmethod
    def around(application: WSGIApplication) -> WSGIApplication:
        """The application with the id in its context."""

        def identified(environ: dict[str, Any], start_response: Any) -> Any:
            enter(environ[VARIABLE])
            return application(environ, start_response)

        return identified

    @staticmethod
    def named(head: bytes, environ: dict[str, Any]) -> bytes:
        """A head that begins with the id: for the line of a request whose worker is killed."""
        line, _, rest = head.partition(b"\r\n")
        return b"%b\r\n%b: %b\r\n%b" % (line, ID_FIELD.encode(), environ[VARIABLE].encode(), rest)

    def line(self, environ: dict[str, Any]) -> str:
        """The field's line for the server's own answers; empty where answers do not tell."""
        return f"{ID_FIELD}: {environ[VARIABLE]}\r\n" if self.answers and VARIABLE in environ else ""
