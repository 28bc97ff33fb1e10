"""A TCP proxy that plays a bad network between an application and its database.

    with TCPProxy(server.host, server.port) as proxy:
        proxy.port            connect here
        proxy.latency(100)    every chunk arrives 100 ms later, in both directions
        proxy.deaf()          nothing is accepted and nothing forwarded; connections stay open, as behind a dead router
        proxy.cut()           reset the open connections
        proxy.stop()          cut, and refuse new ones ("connection refused")
        proxy.start()         back to normal, on the same port
        proxy.aim(host, port) new connections lead to another server; open ones stay where they are, as with a name that moves

Proxies live in a process of their own: they neither wait for the test's interpreter nor see its monkey patches.
One such process serves every proxy of a test process. The handle may be pickled elsewhere; all verbs work there.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

HOST = "127.0.0.1"
CHUNK = 1 << 16
ANSWER_DEADLINE = 10.0  # seconds for one verb
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST, as a vanished peer does


class ProxyProcess:
    """The process that all proxies of this test process share: an interpreter for each would cost more than the tests."""

    def __init__(self) -> None:
        root = Path(__file__).parents[2]
        command = [sys.executable, "-m", "tests.db.proxy"]
        self._process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.control: int = json.loads(self._process.stdout.readline())

    @property
    def alive(self) -> bool:
        """Whether it can serve another proxy."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it."""
        with self._process:
            self._process.kill()


_processes: list[ProxyProcess] = []


def _control() -> int:
    """The port on which the proxy process takes verbs; it is started when it is first needed."""
    if not _processes or not _processes[-1].alive:
        _processes.append(ProxyProcess())
        atexit.register(_processes[-1].close)
    return _processes[-1].control


class TCPProxy:
    """The test's side: asks the proxy process for a proxy, and sends that proxy verbs."""

    def __init__(self, host: str, port: int) -> None:
        self.host = HOST
        self.target = (host, port)
        self.port = 0
        self._control = 0

    def __enter__(self) -> Self:
        self._control = _control()
        host, port = self.target
        self.port = self._say("open", host=host, port=port)["port"]
        return self

    def __exit__(self, *exc: object) -> None:
        self._say("close")

    def _say(self, verb: str, **arguments: object) -> dict[str, Any]:
        with socket.create_connection((HOST, self._control), ANSWER_DEADLINE) as line, line.makefile("rw") as stream:
            stream.write(json.dumps([self.port, verb, arguments]) + "\n")
            stream.flush()
            answer: dict[str, Any] = json.loads(stream.readline())
            return answer

    def stop(self) -> None:
        """Reset every connection and refuse new ones."""
        self._say("stop")

    def start(self) -> None:
        """Listen again, forward again, without latency."""
        self._say("start")

    def deaf(self) -> None:
        """Forward nothing and accept nothing; what is open stays open, in silence, until `start()`."""
        self._say("deaf")

    def latency(self, ms: float) -> None:
        """Delay every chunk by `ms` milliseconds, in each direction."""
        self._say("latency", ms=ms)

    def cut(self) -> None:
        """Reset the open connections; new ones are welcome."""
        self._say("cut")

    def aim(self, host: str, port: int) -> None:
        """Forward new connections to another server. Open ones stay with theirs."""
        self._say("aim", host=host, port=port)

    def stats(self) -> dict[str, int]:
        """`open` and `total` connections; `round_trips`: how often the direction turned from client to server."""
        return self._say("stats")


class Pipe:
    """One client connection and its way to the server."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.writers: list[asyncio.StreamWriter] = []
        self.last_from_client = False

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward both ways until one side ends."""
        self.writers.append(writer)
        try:
            await self.proxy.hearing.wait()
            there, back = await asyncio.open_connection(*self.proxy.target)
            self.writers.append(back)
            ways = [self.forward(reader, back, from_client=True), self.forward(there, writer, from_client=False)]
            await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the server is down: the client sees its connection end, as through any proxy
        finally:
            await self.close()
            self.proxy.pipes.discard(self)

    async def close(self) -> None:
        """Close both sides, and return when the sockets are closed: until then the peers have heard nothing."""
        for end in self.writers:
            end.close()
        for end in self.writers:
            with contextlib.suppress(OSError):
                await end.wait_closed()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        """One direction. Latency keeps the order, and the bytes of one chunk together."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                self.proxy.round_trips += from_client and not self.last_from_client
                self.last_from_client = from_client
                await self.proxy.hearing.wait()
                if self.proxy.delay:
                    loop.call_later(self.proxy.delay, writer.write, data)
                else:
                    writer.write(data)
                    await writer.drain()
            await asyncio.sleep(self.proxy.delay)

    def reset(self) -> None:
        """End both sides the hard way."""
        for writer in self.writers:
            if end := writer.get_extra_info("socket"):
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()


class Proxy:
    """One proxy, in the proxy process."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.delay = 0.0
        self.hearing = asyncio.Event()
        self.pipes: set[Pipe] = set()
        self.total = self.round_trips = 0
        self.server: asyncio.Server | None = None

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client came."""
        pipe = Pipe(self)
        self.pipes.add(pipe)
        self.total += 1
        await pipe.run(reader, writer)

    async def start(self) -> None:
        """Open, with no fault."""
        self.delay = 0.0
        self.hearing.set()
        if self.server is None:
            self.server = await asyncio.start_server(self.accept, HOST, self.port, reuse_address=True)
            self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse and reset."""
        if self.server is not None:
            self.server.close()
            self.server = None
        await self.cut()

    async def deaf(self) -> None:
        """Say nothing more. The kernel may still complete a handshake: the client then waits for a first byte in vain."""
        self.hearing.clear()

    async def latency(self, ms: float) -> None:
        """Slow down."""
        self.delay = ms / 1000

    async def cut(self) -> None:
        """Reset what is open."""
        for pipe in list(self.pipes):
            pipe.reset()

    async def aim(self, host: str, port: int) -> None:
        """Move the name."""
        self.target = (host, port)

    async def stats(self) -> dict[str, int]:
        """Counters."""
        return {"open": len(self.pipes), "total": self.total, "round_trips": self.round_trips}


class Proxies:
    """Every proxy of the process. A test's handle names its own one by the port, which stays the same all its life."""

    def __init__(self) -> None:
        self.by_port: dict[int, Proxy] = {}

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One line, one verb, one answer."""
        port, verb, arguments = json.loads(await reader.readline())
        answer = await (self.open(**arguments) if verb == "open" else self.tell(port, verb, arguments))
        writer.write(json.dumps(answer or {}).encode() + b"\n")
        writer.close()

    async def open(self, host: str, port: int) -> dict[str, int]:
        """A new proxy before this address."""
        proxy = Proxy(host, port)
        await proxy.start()
        self.by_port[proxy.port] = proxy
        return {"port": proxy.port}

    async def tell(self, port: int, verb: str, arguments: dict[str, Any]) -> dict[str, int] | None:
        """Do what one proxy is asked for; after `close` it is forgotten."""
        proxy = self.by_port.pop(port) if verb == "close" else self.by_port[port]
        answer: dict[str, int] | None = await getattr(proxy, "stop" if verb == "close" else verb)(**arguments)
        return answer


async def serve() -> None:
    """Run until the test's end of our standard input closes."""
    control = await asyncio.start_server(Proxies().control, HOST, 0)
    print(json.dumps(control.sockets[0].getsockname()[1]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve())
