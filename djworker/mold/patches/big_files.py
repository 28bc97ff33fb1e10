"""[mold] Django and big files: to copy one, to move one to another file system, and to let go of one takes the kernel long.

Each of these is a loop around calls that succeed, or one call whose time grows with the file, so the hub does not turn meanwhile:
after an upload of 600 MiB others waited for 120 ms, and where it had to be copied, for half a second. The classes are Django's,
because projects derive their own storages and upload handlers from them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import gevent

from djworker.http.bulk import away_from_hub, has_turns, share
from djworker.http.held import held

__all__ = ["install"]

#: Seconds between two looks at a lock: about the time in which a file of some MiB is copied.
LOOK: Final = 0.01


def install() -> None:
    """Patch Django."""
    from django.core.files import locks
    from django.core.files.base import File
    from django.core.files.storage import FileSystemStorage, filesystem
    from django.core.files.uploadedfile import TemporaryUploadedFile

    File.chunks = _sharing(File.chunks)  # type: ignore[method-assign]
    TemporaryUploadedFile.close = _holding(TemporaryUploadedFile.close)  # type: ignore[assignment, method-assign]
    FileSystemStorage.delete = _holding_named(FileSystemStorage.delete)  # type: ignore[assignment, method-assign]
    if locks.LOCK_NB:
        locks.lock = _waiting(locks.lock, locks.LOCK_NB)  # type: ignore[assignment]
    moved: Any = filesystem
    moved.file_move_safe = functools.partial(away_from_hub, moved.file_move_safe)


def _sharing(original: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Let others have their turn between two pieces of a file: Django's documentation has views copy files in such a loop."""

    @functools.wraps(original)
    def chunks(self: Any, chunk_size: int | None = None) -> Iterator[Any]:
        for chunk in original(self, chunk_size):
            yield chunk
            share()

    return chunks


def _waiting(original: Callable[[Any, int], bool], at_once: int) -> Callable[[Any, int], bool]:
    """Wait for a lock beside the others: who has it may be one of them, and pause between two pieces of the file."""

    @functools.wraps(original)
    def lock(f: Any, flags: int) -> bool:
        if flags & at_once or not has_turns():
            return original(f, flags)
        while not original(f, flags | at_once):
            gevent.sleep(LOOK)
        return True

    return lock


def _holding(original: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(original)
    def close(self: Any) -> None:
        with held(_descriptor(self)):
            original(self)

    return close


def _descriptor(file: Any) -> int:
    try:
        return int(file.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or none of the system's files
        return -1


def _holding_named(original: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    @functools.wraps(original)
    def delete(self: Any, name: str) -> None:
        with held(self.path(name) if name else ""):
            original(self, name)

    return delete
