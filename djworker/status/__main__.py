"""``python -m djworker.status``: started by the arbiter where ``status_bind`` is set, and ended by EOF on its channel."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

from djworker import accounts, log, process
from djworker.ipc import messages
from djworker.ipc.channel import Channel
from djworker.ipc.contract import Flag
from djworker.ipc.launch import Launch
from djworker.ipc.regions import Region
from djworker.status.memory import MetricsMemory
from djworker.status.pages import Pages
from djworker.status.server import StatusServer

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A terminal and systemd send these to every process of a group; this one goes when the arbiter does, and answers until then.
_IGNORED: Final = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGPIPE,
)
#: Less than the workers' priority: a flood of questions takes no time from requests.
_NICE: Final = 10


class _Line:
    """[status] What the arbiter says."""

    def __init__(self, channel: Channel, memory: MetricsMemory) -> None:
        self._channel = channel
        self._memory = memory
        self.ended = False

    def hear(self) -> None:
        """A slot has been used for the first time, or the arbiter is gone."""
        received = self._channel.receive()
        self.ended = received.eof
        for message, fd in zip(received.messages, received.fds, strict=False):
            if isinstance(message, messages.RegionMade):
                self._memory.add(message.slot, Region(fd))


def main(arguments: Sequence[str]) -> int:
    """Answer until the arbiter hangs up."""
    options = _parse(arguments)
    process.ignore_signals(_IGNORED)
    launch = Launch.from_environ(os.environ)
    config = launch.config
    accounts.become(accounts.find(config.user, config.group))  # it needs no more than the mold
    process.die_with(options.arbiter)
    process.set_title(f"djworker: status [{config.proc_name or launch.proc_name}]")
    log.configure(config.log_level, config.log_format, "status")
    os.nice(_NICE)
    memory = MetricsMemory(Region(options.board), Region(options.own))
    for slot, fd in options.regions:
        memory.add(slot, Region(fd))
    channel = Channel.from_fd(options.channel)
    channel.set_blocking(False)
    line = _Line(channel, memory)
    server = StatusServer([socket.socket(fileno=fd) for fd in options.listeners], Pages(memory))
    server.watch(channel.fileno(), line.hear)
    gc.freeze()
    while not line.ended:
        server.turn()
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m djworker.status")
    parser.add_argument(Flag.ARBITER, type=int, required=True)
    parser.add_argument(Flag.CHANNEL, type=int, required=True)
    parser.add_argument(Flag.LISTENERS, type=_numbers, default=())
    parser.add_argument(Flag.BOARD, type=int, required=True)
    parser.add_argument(Flag.OWN, type=int, required=True)
    parser.add_argument(Flag.REGIONS, type=_pairs, default=())
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (part.split(":") for part in text.split(",") if part)
    return tuple((int(slot), int(fd)) for slot, fd in pairs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
