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
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any, Self

HOST = "127.0.0.1"
CHUNK = 1 << 16  # bytes that are read at once
HELD_MOST = 4  # chunks of one direction that a deaf proxy takes; what comes behind them stays with the kernel
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


class NoProxy(TCPProxy):
    """In a proxy's place for tests that have no use for one: the way leads straight to the server."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.host, self.port = host, port

    def _say(self, verb: str, **arguments: object) -> dict[str, Any]:
        raise AssertionError(f"{verb}: no proxy is started for the tests of a module that has no word of one")


class End(asyncio.Protocol):
    """One side of a connection. What it receives goes to the other side, in order, each chunk whole."""

    transport: asyncio.Transport

    def __init__(self, pipe: Pipe, *, client: bool) -> None:
        self.pipe, self.client = pipe, client
        self.full = False  # what is to be sent to it has not left yet
        self.held: deque[tuple[float, bytes]] = deque()  # when to send it, and what; nothing stands for the end
        self.timer: asyncio.TimerHandle | None = None
        self.lost = pipe.proxy.loop.create_future()

    @classmethod
    def of_client(cls, proxy: Proxy) -> Self:
        """That of a client who comes."""
        return cls(Pipe(proxy), client=True)

    @property
    def other(self) -> End | None:
        """The other side, once it is there."""
        return self.pipe.server if self.client else self.pipe.client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there; nothing is read before the other one is."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.max_size = CHUNK  # type: ignore[attr-defined]  # a large answer comes in many pieces, as from afar
        self.pipe.made(self)
        # Not yet: Python 3.11.2 begins to read behind this call, paused or not.
        self.pipe.proxy.loop.call_soon(self.regulate)

    def regulate(self) -> None:
        """Read as long as the other side takes it."""
        deaf = not self.pipe.proxy.hearing.is_set() and len(self.held) >= HELD_MOST
        if self.other is None or self.other.full or deaf:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """The other side waits."""
        self.full = True
        self._regulate_other()

    def resume_writing(self) -> None:
        """The other side goes on."""
        self.full = False
        self._regulate_other()

    def _regulate_other(self) -> None:
        if self.other is not None:
            self.other.regulate()

    def data_received(self, data: bytes) -> None:
        """Send it on: now, later, or when the proxy hears again."""
        proxy, pipe = self.pipe.proxy, self.pipe
        proxy.round_trips += self.client and not pipe.last_from_client
        pipe.last_from_client = self.client
        if proxy.hearing.is_set() and not proxy.delay and not self.held:
            assert self.other is not None
            self.other.transport.write(data)
        else:
            self.hold(data, proxy.delay)

    def eof_received(self) -> bool:
        """It says no more: the connection ends behind what it said."""
        self.hold(b"", self.pipe.proxy.delay)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone. The socket is closed as soon as the loop gets there."""
        self.pipe.proxy.loop.call_soon(self.lost.set_result, None)
        self.hold(b"", 0)

    def hold(self, data: bytes, delay: float) -> None:
        """Keep it for so long."""
        self.held.append((self.pipe.proxy.loop.time() + delay, data))
        self.release()

    def release(self) -> None:
        """Send what is due. A deaf proxy sends nothing, but an end with nothing before it is seen."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        loop = self.pipe.proxy.loop
        while self.held and (self.pipe.proxy.hearing.is_set() or not self.held[0][1]):
            due, data = self.held[0]
            if due > loop.time():
                self.timer = loop.call_at(due, self.release)
                break
            self.held.popleft()
            self._pass_on(data)
        self.regulate()

    def _pass_on(self, data: bytes) -> None:
        if not data:
            self.pipe.close()
        elif self.other is not None:
            self.other.transport.write(data)


class Pipe:
    """One client connection and its way to the server."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client: End | None = None
        self.server: End | None = None
        self.last_from_client = False
        self.life: asyncio.Task[None] | None = None

    def made(self, end: End) -> None:
        """A side is there. The client is the first."""
        if end.client:
            self.client = end
            self.proxy.pipes.add(self)
            self.proxy.total += 1
            self.life = self.proxy.loop.create_task(self.live())
        else:
            self.server = end

    @property
    def ends(self) -> list[End]:
        """Those that are there."""
        return [end for end in (self.client, self.server) if end is not None]

    async def live(self) -> None:
        """Find the server; then wait until both sides are closed: until then the peers have heard nothing."""
        assert self.client is not None
        try:
            await self.proxy.hearing.wait()
            await self.proxy.loop.create_connection(lambda: End(self, client=False), *self.proxy.target)
            self.client.regulate()
        except (OSError, asyncio.CancelledError):  # the latter is our own: see `reset`
            self.close()  # the server is down: the client sees its connection end, as through any proxy
        await asyncio.wait([end.lost for end in self.ends])
        self.proxy.pipes.discard(self)

    def close(self) -> None:
        """Close both sides, behind what they are still to be sent."""
        for end in self.ends:
            end.transport.close()

    async def reset(self) -> None:
        """End both sides the hard way, and return when the sockets are closed."""
        for end in self.ends:
            if line := end.transport.get_extra_info("socket"):
                with contextlib.suppress(OSError):
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            end.transport.abort()
        assert self.life is not None
        if self.server is None:
            self.life.cancel()
        await self.life


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
        self.loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Open, with no fault."""
        self.delay = 0.0
        self.hearing.set()
        for pipe in self.pipes:
            for end in pipe.ends:
                end.release()
        if self.server is None:
            accept = partial(End.of_client, self)
            self.server = await self.loop.create_server(accept, HOST, self.port, reuse_address=True)
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
        await asyncio.gather(*(pipe.reset() for pipe in self.pipes))

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

    async def obey(self, port: int, verb: str, arguments: dict[str, Any]) -> dict[str, int]:
        """One verb, one answer."""
        answer = await (self.open(**arguments) if verb == "open" else self.tell(port, verb, arguments))
        return answer or {}

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


class Control(asyncio.Protocol):
    """A line from a test's handle, and the answer."""

    transport: asyncio.Transport

    def __init__(self, proxies: Proxies) -> None:
        self.proxies = proxies
        self.line = b""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A handle has something to say."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Obey when the line is whole."""
        self.line += data
        if self.line.endswith(b"\n"):
            self.task = asyncio.get_running_loop().create_task(self.answer())

    async def answer(self) -> None:
        """Say what came of it."""
        answer = await self.proxies.obey(*json.loads(self.line))
        self.transport.write(json.dumps(answer).encode() + b"\n")
        self.transport.close()


async def serve() -> None:
    """Run until the test's end of our standard input closes."""
    control = await asyncio.get_running_loop().create_server(partial(Control, Proxies()), HOST, 0)
    print(json.dumps(control.sockets[0].getsockname()[1]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve())
