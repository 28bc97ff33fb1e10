"""Accepting on sockets that do not give connections."""

from __future__ import annotations

import socket
from pathlib import Path

import gevent

from djworker.worker.accept import Acceptor


class Site:
    """Permits without end; counts how often the acceptor thinks that there is something to accept."""

    on_permit_free = None
    asked = 0

    def has_permit(self) -> bool:
        self.asked += 1
        return True


def test_a_socket_that_is_shut_down_does_not_keep_the_hub_busy(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.shutdown(socket.SHUT_RD)
        site = Site()
        acceptor = Acceptor(site, [listener], alone=False)  # type: ignore[arg-type,list-item]
        acceptor.start()
        for _ in range(50):
            gevent.sleep(0.001)
        acceptor.close()
    assert site.asked == 1, "it is tried again after a pause, not at every turn"
