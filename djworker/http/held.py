"""Files that are closed or removed: the kernel takes 60 ms to give the pages of 600 MiB back."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from djworker import process
from djworker.http.bulk import away_from_hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["held"]

#: Bytes. A smaller file is given back in less than a millisecond, and a native thread costs a tenth of one.
BIG: Final = 8 << 20
#: A link is not followed: what is removed is the link. A pipe, in the place of a file just now, is not waited for.
FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_close: Callable[[int], None] = process.unpatched("os", "close")


@contextlib.contextmanager
def held(file: int | str | bytes | os.PathLike[str]) -> Iterator[None]:
    """Hold a file while it is closed, removed or replaced, where it is big.

    Whichever comes last, close(2), unlink(2) or the rename of another file over it, gives all its pages back and blocks the
    process meanwhile. So another descriptor is the last one, and a native thread closes it.

    Args:
        file: a descriptor or a path. One that is closed, missing or no plain file is no failure.
    """
    other = _another(file)
    try:
        yield
    finally:
        if other >= 0:
            _let_go(other)


def _another(file: int | str | bytes | os.PathLike[str]) -> int:
    """Return another descriptor of a big file, -1 where there is none."""
    try:
        status = os.fstat(file) if isinstance(file, int) else os.lstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size < BIG:
            return -1
        return os.dup(file) if isinstance(file, int) else os.open(file, FLAGS)
    except (OSError, ValueError):
        return -1


def _let_go(descriptor: int) -> None:
    """Close it, in a native thread if the file has no name any more."""
    left = [descriptor]
    try:
        if not os.fstat(descriptor).st_nlink:
            away_from_hub(_close_it, left)
    finally:
        _close_it(left)  # here, where it has another name, or its request was ended before a thread was free


def _close_it(left: list[int]) -> None:
    with contextlib.suppress(IndexError):  # by now the other thread has
        _close(left.pop())
