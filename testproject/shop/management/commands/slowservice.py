"""``manage.py slowservice PORT``: stands in for somebody else's slow service."""

import asyncio
import json
import os
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
        async def answer(reader, writer):
            await _answer(reader, writer, ms)

        server = await asyncio.start_server(answer, HOST, port, backlog=2048)
        host, port = server.sockets[0].getsockname()
        self.stdout.write(f"Listening at http://{host}:{port}/")
        self.stdout.flush()
        async with server:
            await (_parent_is_gone() if with_parent else server.serve_forever())


async def _parent_is_gone():
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110  (nobody tells)
        await asyncio.sleep(0.5)


async def _answer(reader, writer, ms):
    """Serve one connection, and one request on it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        query = parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query)
        await asyncio.sleep(float(query.get("ms", [ms])[0]) / 1000)
        body = json.dumps({"product": query.get("product", [""])[0], "days": 2}).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body),
        )
        await writer.drain()
    except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError):
        pass  # whoever asked has gone, or did not speak HTTP
    finally:
        writer.close()
