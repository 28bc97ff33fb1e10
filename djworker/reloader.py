"""Development: tells the arbiter when files of the project change. A process of its own, ended by EOF."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from djworker import accounts, process
from djworker.ipc import messages
from djworker.ipc.channel import Channel
from djworker.ipc.contract import Flag
from djworker.ipc.launch import Launch

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a running project reads once: code, templates, settings. Not the database, not the log.
SUFFIXES: Final = (".py", ".html", ".txt", ".toml", ".ini", ".cfg", ".yaml", ".yml", ".env", ".po", ".mo")
#: Milliseconds until it is looked again whether the arbiter is there.
_TIMEOUT_MS: Final = 500
#: A change of branch touches thousands, more than a message can hold.
_PATHS_SHOWN: Final = 20


def main(arguments: Sequence[str]) -> int:
    """Watch until the arbiter hangs up."""
    options, _rest = _parser().parse_known_args(arguments)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    launch = Launch.from_environ(os.environ)
    accounts.become(accounts.find(launch.config.user, launch.config.group))  # it needs no more than the mold
    process.die_with(options.arbiter)
    process.set_title(f"djworker: reloader [{launch.config.proc_name or launch.proc_name}]")
    channel = Channel.from_fd(options.channel)
    channel.set_blocking(False)
    _watch(channel, sorted({launch.cwd, *launch.sys_path}))
    return 0


def _watch(channel: Channel, folders: Sequence[str]) -> None:
    from watchfiles import DefaultFilter, watch  # noqa: PLC0415 - optional: the ``reload`` extra

    class Wanted(DefaultFilter):
        def __call__(self, change: object, path: str) -> bool:
            return path.endswith(SUFFIXES) and super().__call__(change, path)  # type: ignore[arg-type]

    existing = [folder for folder in folders if os.path.isdir(folder)]
    for changed in watch(*existing, watch_filter=Wanted(), rust_timeout=_TIMEOUT_MS, yield_on_timeout=True):
        if channel.receive().eof:
            return
        if changed:
            channel.send(messages.FilesChanged(sorted({path for _change, path in changed})[:_PATHS_SHOWN]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m djworker.reloader")
    parser.add_argument(Flag.ARBITER, type=int, required=True)
    parser.add_argument(Flag.CHANNEL, type=int, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
