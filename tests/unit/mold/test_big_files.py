"""An upload's file that is written in large pieces, beside the others: it looks like Django's to whoever looks at it."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile

from djworker.http.bulk import BulkWork
from djworker.mold.patches.big_files import AT_ONCE, FEW, pieces_of, write_in_pieces


class Djangos(TemporaryUploadedFile):
    """Django's, without settings."""

    def __init__(self) -> None:
        UploadedFile.__init__(self, tempfile.NamedTemporaryFile(), "name")  # noqa: SIM115 - the upload closes it


class Ours(Djangos):
    """As in a worker, while Django's own class stays as it is."""


write_in_pieces(Ours)

LOOKS: dict[str, Callable[[Any], Any]] = {
    "path": lambda file: Path(file.temporary_file_path()).read_bytes(),
    "flush": lambda file: (file.flush(), Path(file.temporary_file_path()).read_bytes()),
    "place": lambda file: file.tell(),
    "file": lambda file: file.file.tell(),
    "seek": lambda file: file.seek(5),
    "read": lambda file: (file.seek(0), file.read()),
    "chunks": lambda file: list(file.chunks()),
    "lines": lambda file: (file.seek(0), file.readlines()),
    "iteration": lambda file: (file.seek(0), list(file)),
    "truncation": lambda file: (file.truncate(3), file.seek(0, 2)),
    "more lines": lambda file: (file.writelines([b"x\n", b"y\n"]), file.tell()),
    "state": lambda file: (file.closed, file.readable(), file.writable(), file.seekable()),
}


@pytest.fixture(autouse=True)
def _in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    gevent.get_hub()  # a worker has one
    monkeypatch.setattr(BulkWork, "serving", BulkWork())


@pytest.fixture
def upload() -> Iterator[Ours]:
    with Ours() as file:
        yield file


@pytest.mark.parametrize("size", [10, FEW + 1, AT_ONCE - 1, AT_ONCE + 1])
@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_the_file_finds_what_it_would_find_with_django(upload: Ours, look: str, size: int) -> None:
    with Djangos() as djangos:
        for number in range(3):
            piece = bytes([65 + number]) * size
            assert upload.write(piece) == djangos.write(piece) == size
            assert LOOKS[look](upload) == LOOKS[look](djangos)
        assert LOOKS["read"](upload) == LOOKS["read"](djangos)


def test_pieces_of_any_kind_are_written_as_they_were(upload: Ours) -> None:
    changing = bytearray(b"first")
    assert upload.write(changing) == len(changing)
    changing[:] = b"other"
    upload.write(memoryview(b"second"))
    upload.seek(0)
    assert upload.read() == b"firstsecond"
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError):
            upload.write(wrong)


def test_no_more_than_one_large_piece_is_kept(upload: Ours) -> None:
    path = Path(upload.temporary_file_path())
    for _ in range(100):
        upload.write(bytes(FEW))
        assert path.stat().st_size % AT_ONCE == 0


def test_others_have_their_turn_while_an_upload_is_written(upload: Ours) -> None:
    turns: list[int] = []
    other = gevent.spawn(turns.append, 1)
    for _ in range(AT_ONCE // FEW):
        assert not turns
        upload.write(bytes(FEW))
    assert turns
    other.join()


def test_the_rest_of_an_upload_is_written_beside_the_others_too(upload: Ours) -> None:
    turns: list[int] = []
    upload.write(bytes(FEW + 1))
    other = gevent.spawn(turns.append, 1)
    upload.seek(0)
    assert turns
    other.join()


def test_what_a_full_disk_refuses_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Not again when the file is closed, nor when it is collected."""
    full = Ours()
    full.file = Path("/dev/full").open("wb")  # noqa: SIM115 - the upload closes it
    with pytest.raises(OSError, match="No space left"):
        full.write(bytes(AT_ONCE))
    full.write(bytes(FEW + 1))
    with pytest.raises(OSError, match="No space left"):
        full.seek(0)
    full.close()
    del full
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_a_closed_file_is_not_written_to(upload: Ours) -> None:
    upload.close()
    with pytest.raises(ValueError, match="closed file"):
        upload.write(b"late")


def test_outside_of_a_worker_everything_is_written_at_once(upload: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BulkWork, "serving", None)
    upload.write(bytes(FEW))
    assert Path(upload.temporary_file_path()).stat().st_size == FEW


@pytest.mark.parametrize(
    "given",
    [
        [],
        [b""],
        [""],
        [b"a"],
        ["a", "\xe9", "b"],
        [b"a" * FEW] * 20,
        [b"a" * (AT_ONCE + 1), b"", b"b"],
        [b"a", bytearray(b"b"), memoryview(b"c")],
    ],
)
def test_small_pieces_that_are_saved_become_few_with_the_same_content(given: list[Any]) -> None:
    found = list(pieces_of(iter(given)))
    assert all(len(piece) >= AT_ONCE for piece in found[:-1])
    nothing = given[0][:0] if given else b""
    assert all(isinstance(piece, type(nothing)) for piece in found)
    assert nothing.join(found) == nothing.join(given)
    assert bool(found) == bool(given)


def test_pieces_of_two_kinds_are_refused_as_by_a_file() -> None:
    with pytest.raises(TypeError):
        list(pieces_of(iter([b"a", "b"])))
