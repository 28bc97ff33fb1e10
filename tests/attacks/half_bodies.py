"""Clients that leave in the middle of their bodies: an error and a mail for each, where the view is blamed."""

import contextlib
import socket

from tests.attacks.lines import POST, connect, main


def attack(port: int) -> None:
    """Leave without end."""
    while True:
        with contextlib.suppress(OSError), connect(port) as sock:
            sock.sendall(POST % b"/echo" + b"Content-Length: 100\r\n\r\nabc")
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1000)


if __name__ == "__main__":
    main(attack)
