"""[mold] Django and big files: to write, copy or let go of one, or to move it to another file system, takes the kernel long.

Each of these is a loop around calls that succeed, or one call whose time grows with the file, so the hub does not turn meanwhile:
after an upload of 600 MiB others waited for 120 ms, and where it had to be copied, for half a second. Where the network is faster
than the disk, the kernel stops a process that writes (``balance_dirty_pages``): for 20 ms again and again, and for 200 ms where
much is to be written already. The classes are Django's, because projects derive their own storages and upload handlers from them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import gevent

from djworker.http.bulk import away_from_hub, has_turns, share
from djworker.http.held import held

__all__ = ["install", "pieces_of", "write_in_pieces"]

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
    FileSystemStorage._save = _saving(FileSystemStorage._save)  # type: ignore[attr-defined]
    module: Any = filesystem
    module.file_move_safe = functools.partial(away_from_hub, module.file_move_safe)
    module.os = _System()


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
    pieces: bytearray = vars(self).setdefault(_PIECES, bytearray())
    pieces += piece
    if len(pieces) >= AT_ONCE:
        _write_out(self)
    return len(piece)


def _complete(self: Any) -> Any:
    """Return the file as all but ``write()`` see it: with everything that was written."""
    if _PIECES in vars(self):
        _write_out(self)
    return vars(self)["file"]


def _set_file(self: Any, file: Any) -> None:
    vars(self)["file"] = file


def _write_out(self: Any) -> None:
    """Write what was collected, and forget it: what cannot be written is not tried again when the file is closed."""
    file, data = vars(self)["file"], vars(self).pop(_PIECES)
    if len(data) > FEW:
        away_from_hub(file.write, data)
    else:
        file.write(data)


def _saving(original: Callable[[Any, str, Any], str]) -> Callable[[Any, str, Any], str]:
    """Have what is in memory, or comes from elsewhere, written in larger pieces. What has a path is moved there."""

    @functools.wraps(original)
    def save(self: Any, name: str, content: Any) -> str:
        streams = has_turns() and not hasattr(content, "temporary_file_path")
        return original(self, name, _InPieces(content) if streams else content)

    return save


class _InPieces:
    """[worker] A content that a storage is to write."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    def chunks(self) -> Iterator[Any]:
        """Give the content's pieces, small ones together."""
        return pieces_of(self._content.chunks())


def pieces_of(chunks: Iterable[Any]) -> Iterator[Any]:
    """Join bytes, or text, to pieces that are worth a native thread."""
    pieces: list[Any] = []
    size = 0
    for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size >= AT_ONCE:
            yield _joined(pieces)
            pieces.clear()
            size = 0
    if pieces:
        yield _joined(pieces)


def _joined(pieces: list[Any]) -> Any:
    return pieces[0][:0].join(pieces) if len(pieces) > 1 else pieces[0]


class _System:
    """[worker] ``os``, as Django's module of storages sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fdopen(self, descriptor: int, *args: Any, **kwargs: Any) -> Any:
        """Open a file whose larger pieces a native thread writes."""
        file = os.fdopen(descriptor, *args, **kwargs)
        return _Saved(file) if has_turns() else file


class _Saved:
    """[worker] A file that a storage writes."""

    def __init__(self, file: Any) -> None:
        self._file = file
        # Whether it has more than a few bytes.
        self._is_big = False

    def write(self, data: Any) -> int:
        """Write a piece of bytes or of text."""
        if len(data) <= FEW:
            return int(self._file.write(data))
        self._is_big = True
        return away_from_hub(_write_through, self._file, data)

    def close(self) -> None:
        """Close it: on a network's file system, that writes."""
        if self._is_big:
            away_from_hub(self._file.close)
        else:
            self._file.close()


def _write_through(file: Any, data: Any) -> int:
    """Write, and leave nothing for close()."""
    written = int(file.write(data))
    file.flush()
    return written


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
