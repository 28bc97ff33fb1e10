"""The counting of instructions, but for valgrind itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.benchmarks.instructions import Client, total_of


def answering(*pieces: bytes) -> int:
    """The port of a server that answers its one client with these pieces, each in a write of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    threading.Thread(target=_answer, args=(listener, pieces), daemon=True).start()
    return port


def _answer(listener: socket.socket, pieces: Sequence[bytes]) -> None:
    with listener, listener.accept()[0] as line:
        line.recv(65536)
        for piece in pieces:
            line.sendall(piece)
        line.recv(1)  # until the client hangs up


def test_an_answer_in_pieces_is_read_to_its_end() -> None:
    port = answering(b"HTTP/1.1 200 OK\r\nContent-", b"Length: 6\r\n\r\nab", b"cd", b"ef")
    with closing(Client(port, "/")) as client:
        client.get()


def test_an_answer_that_is_no_success_counts_for_nothing() -> None:
    port = answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    with closing(Client(port, "/")) as client, pytest.raises(RuntimeError, match="503"):
        client.get()


def test_the_total_is_read_from_what_callgrind_writes(tmp_path: Path) -> None:
    written = tmp_path / "1.out.1"
    written.write_text("version: 1\nevents: Ir\nsummary: 7\n\nfn=(1)\n0 7\n\ntotals: 113525677\n")
    assert total_of(written) == 113_525_677


def test_a_dump_without_a_total_is_no_zero(tmp_path: Path) -> None:
    written = tmp_path / "1.out.1"
    written.write_text("version: 1\n")
    with pytest.raises(ValueError, match="no total"):
        total_of(written)
