"""``manage.py slowservice PORT``: stands in for somebody else's slow service."""

import asyncio
import json
import os
import re
from urllib.parse import parse_qs, urlsplit

from django.core.management.base import BaseCommand, CommandError

HOST = "127.0.0.1"


class Command(BaseCommand):
    """Answers every GET after `ms` milliseconds. One event loop, so that thousands may wait at once."""

    help = "Stand in for the supplier: answer each request after the milliseconds that it asks for."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("port", type=int, help="Where to listen, on 127.0.0.1; 0 takes a free port.")
        parser.add_argument(
            "--with-parent", action="store_true", help="End when the process that started this one has ended."
        )
        parser.add_argument("--ms", type=int, default=100, help="Delay where the request asks for none.")

    def handle(self, *_args, **options):
        try:
            asyncio.run(self._serve(options["port"], options["ms"], with_parent=options["with_parent"]))
        except KeyboardInterrupt:
            self.stdout.write("")
        except OSError as error:
            raise CommandError(f"cannot listen at {HOST}:{options['port']}: {error.strerror}") from error

    async def _serve(self, port, ms, *, with_parent):
        async def converse(reader, writer):
            await _converse(reader, writer, ms)

        server = await asyncio.start_server(converse, HOST, port, backlog=2048)
        host, port = server.sockets[0].getsockname()
        self.stdout.write(f"Listening at http://{host}:{port}/")
        self.stdout.flush()
        # Not `async with server` nor serve_forever(): in the end, both would wait for everybody who keeps a connection.
        await (_parent_is_gone() if with_parent else asyncio.Event().wait())


async def _parent_is_gone():
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110  (nobody tells)
        await asyncio.sleep(0.5)


async def _converse(reader, writer, ms):
    """Serve one connection, until whoever asks goes or wants it closed."""
    try:
        while await _answer(reader, writer, ms):
            pass
    except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError):
        pass  # whoever asked has gone, or did not speak HTTP
    except asyncio.CancelledError:
        pass  # the service ends: Python 3.11 would print a traceback for each connection
    finally:
        writer.close()


async def _answer(reader, writer, ms):
    """Serve one request; whether the connection is kept for another one."""
    head = await reader.readuntil(b"\r\n\r\n")
    query = parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query)
    await asyncio.sleep(float(query.get("ms", [ms])[0]) / 1000)
    body = json.dumps({"product": query.get("product", [""])[0], "days": 2}).encode()
    kept = _is_kept(head)
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
        % (b"" if kept else b"Connection: close\r\n", len(body), body),
    )
    await writer.drain()
    return kept


def _is_kept(head):
    """Whether the connection outlives the answer: HTTP/1.1 keeps it where nobody says otherwise."""
    line, _, fields = head.lower().partition(b"\r\n")
    return line.endswith(b"http/1.1") and not re.search(rb"^connection:.*\bclose\b", fields, re.MULTILINE)
