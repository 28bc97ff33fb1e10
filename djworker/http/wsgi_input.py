"""wsgi.input: a request's body as a file, received while it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from djworker.ipc.contract import READ_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Input"]


#: Reads in one turn of the hub until others are asked for: of single bytes, a received block has 65 536, which took 60 ms.
READS_AT_ONCE: Final = 256
#: Bytes of a read that receives no more than it returns: to keep the rest of a block copies each byte of the body twice. Shorter
#: reads share a block, because to receive costs more than to copy.
WHOLE: Final = 16_384


def nothing(_: int) -> bytes:
    """Be the end of a body."""
    return b""


def alone() -> None:
    """Have no others to let pass."""


class Input:
    """[worker] Reads on demand; holds no more than one received block.

    Args:
        pull: returns the next block, nothing at the end; it blocks, and raises OSError. It is told how many bytes to receive at
            most, and may have more that are here already.
        first: a block that is here already.
        share: lets others have their turn, if this one has lasted; called between small reads of one block.
    """

    __slots__ = ("_block", "_position", "_pull", "_reads", "_share")

    def __init__(
        self, pull: Callable[[int], bytes] = nothing, first: bytes = b"", share: Callable[[], object] = alone
    ) -> None:
        self._pull = pull
        self._share = share
        self._reads = 0
        self._block = first
        self._position = 0

    def end(self) -> None:
        """Cut off from the connection: what comes next there is another request."""
        self._pull, self._share = nothing, alone
        self._block, self._position = b"", 0

    def hold(self, limit: int) -> int | None:
        """Receive all of the body into memory, up to a limit in bytes; what is received stays to be read.

        Returns:
            Its length; None if it is longer than limit.
        """
        held = bytearray(self._block[self._position :])
        while len(held) <= limit and (block := self._pull(READ_SIZE)):
            held += block
        self._block, self._position = bytes(held), 0
        return len(held) if len(held) <= limit else None

    def _more(self, most: int = READ_SIZE) -> bool:
        """Have at least one byte at hand, or say that the end was reached. most: bytes to receive."""
        if self._position < len(self._block):
            return True
        self._block, self._position = self._pull(most), 0
        return bool(self._block)

    def _take(self, size: int) -> bytes:
        start = self._position
        if start == 0 and size >= len(self._block):
            block, self._block = self._block, b""
            return block
        self._reads += 1
        if self._reads % READS_AT_ONCE == 0:
            self._share()
        self._position = min(start + size, len(self._block))
        return self._block[start : self._position]

    def read(self, size: int | None = -1) -> bytes:
        """Return size bytes, fewer only at the end; all there are for -1 and None."""
        if size is None or size < 0:
            return self._read_all()
        whole = size >= WHOLE
        parts: list[bytes] = []
        while size > 0 and self._more(size if whole else READ_SIZE):
            part = self._take(size)
            size -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_all(self) -> bytes:
        parts: list[bytes] = []
        while self._more():
            parts.append(self._take(len(self._block)))
        return b"".join(parts)

    def readline(self, size: int | None = -1) -> bytes:
        """Return a line with its end, at most size bytes of it."""
        left = -1 if size is None else size
        parts: list[bytes] = []
        while left != 0 and self._more():
            newline = self._block.find(b"\n", self._position)
            length = (newline + 1 if newline >= 0 else len(self._block)) - self._position
            if left >= 0:
                length = min(length, left)
                left -= length
            part = self._take(length)
            parts.append(part)
            if part.endswith(b"\n"):
                break
        return b"".join(parts)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Return lines; no further ones once they have hint bytes together."""
        lines: list[bytes] = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line
