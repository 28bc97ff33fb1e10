"""Where the control socket is, and which users it answers."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from djworker import accounts, log
from djworker.arbiter.listeners import SOCKET_MODE, ListenError, open_listeners
from djworker.conf.address import Address
from djworker.control import places

if TYPE_CHECKING:
    from djworker.accounts import Account
    from djworker.arbiter.listeners import Listener
    from djworker.arbiter.loop import Loop
    from djworker.ipc.launch import Launch

__all__ = ["open_on"]

logger = logging.getLogger("djworker.arbiter")

#: Connections that the kernel queues for us.
BACKLOG: Final = 128


def open_on(loop: Loop, listener: Listener | None) -> None:
    """Have *loop* answer clients, as the option ``control`` says. A server that cannot be asked is better than none.

    Args:
        loop: the arbiter's.
        listener: the socket of an earlier program of this process; without one, it is opened.
    """
    launch = loop.children.launch
    account = accounts.service_account(launch.config.user, launch.config.group)
    uids = {os.geteuid()} | ({account.uid} if account is not None else set())
    try:
        listener = listener if listener is not None else _open(launch, account)
    except (ListenError, OSError) as error:
        text = f"control = {launch.config.control}: {error}; djworkerctl does not reach this server"
        log.event(logger, logging.ERROR, "control_failed", text, error=str(error))
        return
    if listener is not None:
        loop.open_control(listener, uids)


def _open(launch: Launch, account: Account | None) -> Listener | None:
    option = launch.config.control
    if option == "off":
        return None
    path = option
    if option == "auto":
        project = places.directories({launch.cwd, *launch.sys_path[:1]})
        path = places.new_address(project, os.geteuid(), os.getpid())
        if not path.startswith("@"):
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            account = None
    return open_listeners([Address.parse(f"unix:{path}")], BACKLOG, SOCKET_MODE, account)[0]
