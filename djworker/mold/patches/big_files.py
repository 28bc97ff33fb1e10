"""[mold] Django and big files: to write, copy or let go of one, or to move it to another file system, takes the kernel long.

Each of these is a loop around calls that succeed, or one call whose time grows with the file, so the hub does not turn meanwhile:
after an upload of 600 MiB others waited for 120 ms, and where it had to be copied, for half a second. Where the network is faster
than the disk, the kernel stops a process that writes (``balance_dirty_pages``): for 20 ms again and again, and for 200 ms where
much is to be written already. The classes are Django's, because projects derive their own storages and upload handlers from them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import gevent

from djworker.http.bulk import away_from_hub, has_turns, share
from djworker.http.held import held

__all__ = ["install", "write_in_pieces"]

#: Bytes that are written at once: to go to a native thread and back takes 0.1 ms, which is a tenth of the time that these take.
AT_ONCE: Final = 512 << 10
#: Bytes that no native thread is worth: what a page that writes a file itself writes at once.
FEW: Final = 64 << 10
#: Seconds between two looks at a lock: about the time in which a file of some MiB is copied.
LOOK: Final = 0.01
#: The attribute of an upload's file with what is not written yet.
_PIECES: Final = "_djworker_pieces"


def install() -> None:
    """Patch Django."""
    from django.core.files import locks
    from django.core.files.base import File
    from django.core.files.storage import FileSystemStorage, filesystem
    from django.core.files.uploadedfile import TemporaryUploadedFile

    File.chunks = _sharing(File.chunks)  # type: ignore[method-assign]
    TemporaryUploadedFile.close = _holding(TemporaryUploadedFile.close)  # type: ignore[assignment, method-assign]
    write_in_pieces(TemporaryUploadedFile)
    FileSystemStorage.delete = _holding_named(FileSystemStorage.delete)  # type: ignore[assignment, method-assign]
    if locks.LOCK_NB:
        locks.lock = _waiting(locks.lock, locks.LOCK_NB)  # type: ignore[assignment]
    moved: Any = filesystem
    moved.file_move_safe = functools.partial(away_from_hub, moved.file_move_safe)


def write_in_pieces(upload: Any) -> None:
    """Have a class of uploads collect what is written, and write larger pieces in a native thread.

    Args:
        upload: Django's TemporaryUploadedFile, or a class built on it. Whatever asks for its ``file`` finds all written there.
    """
    upload.write = _collect
    upload.file = property(_complete, _set_file)


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


def _collect(self: Any, data: Any) -> int:
    """Write, sooner or later: ``write()`` of an upload's file."""
    file = vars(self)["file"]
    if file.closed or not has_turns():
        return int(self.file.write(data))
    piece = data if isinstance(data, bytes) else memoryview(data).tobytes()
    pieces: list[bytes] = vars(self).setdefault(_PIECES, [])
    pieces.append(piece)
    if sum(map(len, pieces)) >= AT_ONCE:
        _write_out(file, pieces)
    return len(piece)


def _complete(self: Any) -> Any:
    """Return the file as all but ``write()`` see it: with everything that was written."""
    file = vars(self)["file"]
    if pieces := vars(self).get(_PIECES):
        _write_out(file, pieces)
    return file


def _set_file(self: Any, file: Any) -> None:
    vars(self)["file"] = file


def _write_out(file: Any, pieces: list[bytes]) -> None:
    """Write pieces, and forget them: what cannot be written is not tried again when the file is closed."""
    data = b"".join(pieces)
    pieces.clear()
    if len(data) > FEW:
        away_from_hub(file.write, data)
    else:
        file.write(data)


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
