"""[mold] Asynchronous iterators in `StreamingHttpResponse`: sent block by block, and ended when the client goes.

Under WSGI, Django collects such an iterator to its end before it sends anything, so a stream of events never begins. Here the
iterator runs in an event loop of its own (see `loops`), in a helper greenlet beside the request's, for as long as the answer
lasts: one task, as under ASGI, so that time-outs and task groups may span its blocks. The request's greenlet takes one block
after the other and sends it; the iterator goes on when that is done.

While the iterator waits, the connection is watched: where the client ends it, the task is cancelled, as Django does under ASGI.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.queue import SimpleQueue

from djworker.http.connection import Connection
from djworker.http.wsgi import ClientGone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["install"]

_END: Final = object()


def install() -> None:
    """Patch Django."""
    from django.http import StreamingHttpResponse

    original = StreamingHttpResponse.__iter__

    def iterate(self: Any) -> Iterator[bytes]:
        return _Stream(self.streaming_content).blocks() if self.is_async else original(self)

    StreamingHttpResponse.__iter__ = iterate  # type: ignore[method-assign]


class _Stream:
    """[worker] One asynchronous iterator, between the loop that runs it and the greenlet that sends what it gives."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self._content = content
        # What comes next: a block, an exception, or _END.
        self._given: SimpleQueue[Any] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._sent: asyncio.Future[None] | None = None
        self._closed = False

    def blocks(self) -> Iterator[bytes]:
        """Give the blocks to the request's greenlet, in which this runs."""
        context = contextvars.copy_context()
        gevent.spawn(context.run, self._run)
        connection = _connection()
        try:
            with _watched(connection, self._given):
                while (block := self._given.get()) is not _END:
                    if isinstance(block, BaseException):
                        raise block
                    yield block
                    self._tell(self._go_on)
        finally:
            self._closed = True
            self._tell(self._cancel)

    def _tell(self, what: Any) -> None:
        """Have the loop do something, unless it has ended."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(what)

    def _go_on(self) -> None:
        if self._sent is not None and not self._sent.done():
            self._sent.set_result(None)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        """Run the iterator, in a greenlet that the ORM takes for its thread."""
        from asgiref.sync import async_to_sync

        outcome: object = _END
        try:
            async_to_sync(self._pump)()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the request's greenlet raises it
            outcome = error
        finally:
            self._given.put(outcome)

    async def _pump(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        content: Any = self._content
        async with contextlib.aclosing(content):
            async for block in content:
                if self._closed:
                    break
                self._sent = self._loop.create_future()
                self._given.put(block)
                await self._sent


def _connection() -> Connection | None:
    """Return the connection that is answered; None where a test or the warm-up reads the answer."""
    arguments = getattr(gevent.getcurrent(), "args", ())
    return next((item for item in arguments if isinstance(item, Connection)), None)


@contextlib.contextmanager
def _watched(connection: Connection | None, given: SimpleQueue[Any]) -> Iterator[None]:
    """Give the end of the connection as what comes next."""
    if connection is None:
        yield
        return
    stop = connection.watch_departure(lambda: given.put(ClientGone("the client ended the connection")))
    try:
        yield
    finally:
        stop()
