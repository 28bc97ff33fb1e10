"""wsgi.file_wrapper: an open file as an answer, which the kernel can send."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from typing import Any, Final

from djworker.http.held import held

__all__ = ["FileWrapper"]

BLOCK: Final = 65_536
PLAIN: Final = (io.FileIO, io.BufferedReader, io.BufferedRandom)


class FileWrapper:
    """[worker] PEP 3333 "Optional Platform-Specific File Handling"."""

    __slots__ = ("block_size", "file")

    def __init__(self, file: Any, block_size: int = BLOCK) -> None:
        self.file = file
        self.block_size = block_size

    def close(self) -> None:
        """Close the file, if it can be closed. It may be a temporary one, and big."""
        plain = self.sendable()
        with held(-1 if plain is None else plain[0]):
            close = getattr(self.file, "close", None)
            if close is not None:
                close()

    def __iter__(self) -> Iterator[bytes]:
        while block := self.file.read(self.block_size):
            yield block

    def blocks(self, length: int) -> Iterator[bytes]:
        """Read length bytes, or to the end for -1. PEP 3333: more than Content-Length says is not to be sent."""
        if length < 0:
            yield from self
            return
        while length > 0 and (block := self.file.read(min(length, self.block_size))):
            length -= len(block)
            yield block

    def sendable(self) -> tuple[int, int, int] | None:
        """Return descriptor, offset and size of what is left of a plain file, else None.

        Asks who reads, not who has a fileno(): a GzipFile has one too, and what is behind it is not what it gives.
        """
        owner: Any = getattr(getattr(self.file, "read", None), "__self__", None)
        if type(owner) not in PLAIN or type(getattr(owner, "raw", owner)) is not io.FileIO:
            return None
        try:
            descriptor, offset = owner.fileno(), owner.tell()
            status = os.fstat(descriptor)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return descriptor, offset, max(status.st_size - offset, 0)
