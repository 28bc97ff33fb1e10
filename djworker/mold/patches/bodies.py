"""[mold] Django and bodies that have no length, or that never come to their end.

Django reads nothing without CONTENT_LENGTH, and reports a client that left within its body, or a full disk, as an error of the
view. That is put right in Django's classes, because a project may have a request class and a handler of its own.
"""

from __future__ import annotations

import errno
import functools
import logging
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from djworker import log
from djworker.http.response import RETRY_AFTER
from djworker.http.wsgi import BodyError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from djworker.http.wsgi_input import Input

__all__ = ["install"]

logger = logging.getLogger("djworker.worker")

#: There is no place for a file that a client sends. Not the view's failure, and another time there may be.
_NO_PLACE: Final = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EFBIG,
    errno.EMFILE,
    errno.ENFILE,
    errno.EACCES,
    errno.EPERM,
}
_LENGTH: Final = "CONTENT_LENGTH"
_CODING: Final = "HTTP_TRANSFER_ENCODING"


def install(limit: int) -> None:
    """Patch Django.

    Args:
        limit: bytes of a body without a length that are held in memory when the length is asked for (``chunked_buffer``).
    """
    from django.core.handlers import exception
    from django.core.handlers.wsgi import WSGIRequest

    WSGIRequest.__init__ = _teaching(WSGIRequest.__init__, limit)  # type: ignore[method-assign]
    WSGIRequest.parse_file_upload = _placing(WSGIRequest.parse_file_upload)  # type: ignore[method-assign]
    exception.response_for_exception = _forgiving(exception.response_for_exception)


class Meta(dict[str, Any]):
    """[worker] ``request.META`` of a chunked request: the body is received when its length is asked for, and not before.

    A view that does not look costs nothing, and ``request.read()`` streams. RFC 9112 7.1.3 says what a message becomes whose
    coding has been removed.
    """

    def __init__(self, environ: dict[str, Any], limit: int) -> None:
        super().__init__(environ)
        self._limit = limit

    def hold(self) -> bool:
        """Receive the body; say whether all of it was within the limit. Raises BodyError where there is no end."""
        stream: Input = self["wsgi.input"]
        if not super().__contains__(_CODING):
            return True
        length = stream.hold(self._limit)
        if length is None:
            return False
        del self[_CODING]
        self[_LENGTH] = str(length)
        return True

    def _look(self, key: object) -> None:
        if key == _LENGTH and not self.hold():
            reason = f"a body without a length, of more than chunked_buffer ({self._limit} bytes)"
            raise BodyError(reason, 413)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key."""
        self._look(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self._look(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._look(key)
        return super().__contains__(key)


def _teaching(original: Callable[..., None], limit: int) -> Callable[..., None]:
    from django.core.handlers.wsgi import LimitedStream

    @functools.wraps(original)
    def init(self: Any, environ: dict[str, Any]) -> None:
        original(self, environ)
        if environ.get(_CODING) is not None and _LENGTH not in environ:
            self.META = self.environ = Meta(environ, limit)
            self._stream = LimitedStream(environ["wsgi.input"], sys.maxsize)

    return init


def _placing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Parse a form with files. One that is too long to be held streams to the upload handlers, as one without a known end."""

    @functools.wraps(original)
    def parse_file_upload(self: Any, META: dict[str, Any], post_data: Any) -> Any:  # noqa: N803 - Django's name
        if isinstance(META, Meta) and not META.hold():
            META = {**META, _LENGTH: str(sys.maxsize)}  # noqa: N806 - Django's name
        try:
            return original(self, META, post_data)
        except OSError as error:
            if not _without_place(error):
                raise
            log.event(
                logger, logging.ERROR, "upload_not_stored", f"an upload could not be stored: {error}", url=self.path
            )
            raise BodyError("the upload could not be stored", 503) from error

    return parse_file_upload


def _without_place(error: OSError) -> bool:
    # tempfile, where no directory can be written to.
    no_directory = error.errno == errno.ENOENT and error.filename is None
    return error.errno in _NO_PLACE or no_directory


def _forgiving(original: Callable[[HttpRequest, Exception], HttpResponse]) -> Callable[..., HttpResponse]:
    """Answer for a body that cannot be read: it is the client's failure, no mail to ADMINS and no report of an exception."""
    from django.http import HttpResponse

    @functools.wraps(original)
    def response_for_exception(request: Any, exc: Exception) -> HttpResponse:
        failure = _body_error(exc)
        if failure is None:
            return original(request, exc)
        request._mark_post_parse_error()
        response = HttpResponse(f"{failure}\n", status=failure.status, content_type="text/plain")
        if failure.status == HTTPStatus.SERVICE_UNAVAILABLE:
            response["Retry-After"] = str(RETRY_AFTER)
        # Django's handler would log it again, and 503 is a mail there.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response

    return response_for_exception


def _body_error(exc: BaseException | None) -> BodyError | None:
    """Return what made the body unreadable, where an exception comes from that (as Django's UnreadablePostError does)."""
    while exc is not None and not isinstance(exc, BodyError):
        exc = exc.__cause__ if isinstance(exc, OSError) else None
    return exc
