"""Memory that processes share: a file without a name, whose size cannot be changed.

On Linux it is sealed and never touches a disk: were it made shorter, the next look of another process would end that process.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import tempfile

__all__ = ["create", "mapped"]


def create(name: str, size: int) -> int:
    """Make memory of *size* bytes, all zero; its descriptor, close-on-exec.

    Args:
        name: shown among the mappings of a process.
        size: in bytes.

    Raises:
        OSError: no descriptors.
    """
    if sys.platform == "linux":
        fd = os.memfd_create(f"djworker-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        fd, path = tempfile.mkstemp(prefix="djworker-")
        os.unlink(path)
    os.ftruncate(fd, size)
    if sys.platform == "linux":
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def mapped(fd: int, size: int, *, writable: bool = True, offset: int = 0) -> mmap.mmap:
    """Map *size* bytes behind a descriptor, from *offset* on, a multiple of the page.

    Before Python 3.13 the mapping keeps a copy of the descriptor.

    Raises:
        OSError: no memory, or *writable* and the descriptor is not.
    """
    access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, access=access, offset=offset, trackfd=False)
    return mmap.mmap(fd, size, access=access, offset=offset)
