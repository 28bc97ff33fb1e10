"""Big files that a view stores, copies and removes: the others have their turn meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.http import request
from tests.processes.server import Server

VIEW_CODE = """
import gevent as _gevent, json as _json, os as _os
from django.core.files.base import File as _File
from django.core.files.storage import FileSystemStorage as _Storage
from django.core.files.uploadedfile import TemporaryUploadedFile as _Upload
from django.http import HttpResponse as _Answer

def _uploaded(size):
    file = _Upload("big", "text/plain", size, None)
    file.truncate(size)
    return file

def _turned(work, *args):
    turns = []
    _gevent.spawn(turns.append, True)
    work(*args)
    return bool(turns)

def _written(size):
    pieces = [bytes([number % 256]) * 65536 for number in range(size >> 16)]
    with _Upload("big", "text/plain", size, None) as file:
        turned = _turned(lambda: [file.write(piece) for piece in pieces])
        with open(file.temporary_file_path(), "rb") as plain:
            return turned, plain.read() == b"".join(pieces)

def big_files_view(request):
    size = 32 << 20
    storage, elsewhere = (_Storage(location=request.GET[name]) for name in ("folder", "elsewhere"))
    found = {"a few written": _written(65536), "many written": _written(1 << 20)}
    found |= {"small": _turned(_uploaded(1000).close), "closed": _turned(_uploaded(size).close)}
    with _uploaded(size) as file:
        found["moved"] = _turned(storage.save, "moved", file)
        found["closed after a move"] = _turned(file.close)
    with _uploaded(size) as file:
        found["moved to another file system"] = _turned(elsewhere.save, "moved", file)
    with open(storage.path("moved"), "rb") as plain:
        found["copied"] = _turned(storage.save, "copied", _File(plain))
        found["removed while open"] = _turned(storage.delete, "moved")
    found["removed"] = _turned(storage.delete, "copied")
    storage.delete("missing")
    names = {**dict.fromkeys(_os.listdir(storage.path(""))), **dict.fromkeys(_os.listdir(elsewhere.path("")))}
    return _Answer(_json.dumps({"turned": found, "left": sorted(names), "size": elsewhere.size("moved")}))
"""

SAME_NAME = """
import gevent as _gevent
from django.core.files.base import ContentFile as _Content
from django.core.files.storage import FileSystemStorage as _Storage
from django.http import HttpResponse as _Answer

def same_name_view(request):
    storage = _Storage(location=request.GET["folder"], allow_overwrite=True)
    contents = [_Content(bytes([48 + number]) * (32 << 20)) for number in range(3)]
    saves = [_gevent.spawn(storage.save, "same", content) for content in contents]
    _gevent.joinall(saves, raise_error=True)
    return _Answer(str(storage.size("same")))
"""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A folder of another file system."""
    folder = Path("/dev/shm")
    assert folder.stat().st_dev != Path(tempfile.gettempdir()).stat().st_dev
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield name


def test_others_have_their_turn_while_a_view_writes_moves_copies_and_removes_a_big_file(
    server: Server, scratch: Path, elsewhere: str
) -> None:
    server.project.add_view(VIEW_CODE, "big_files_view", "big-files/")
    server.start(workers=1)
    (scratch / "media").mkdir()
    answer = request(server.address, f"/big-files/?folder={scratch / 'media'}&elsewhere={elsewhere}")
    assert answer.status == 200, answer.body
    assert answer.json() == {
        "turned": {
            "a few written": [False, True],
            "many written": [True, True],
            "small": False,
            "closed": True,
            "moved": True,
            # Its name is another's now: to close it is quick.
            "closed after a move": False,
            "moved to another file system": True,
            "copied": True,
            # Another descriptor is the last.
            "removed while open": True,
            "removed": True,
        },
        "left": ["moved"],
        "size": 32 << 20,
    }


def test_views_that_save_under_one_name_wait_for_each_other_and_not_for_ever(server: Server, scratch: Path) -> None:
    """Django locks the file meanwhile. The one that has the lock pauses for others, which would stop the worker as they wait."""
    server.project.add_view(SAME_NAME, "same_name_view", "same-name/")
    server.start(workers=1)
    (scratch / "media").mkdir()
    answer = request(server.address, f"/same-name/?folder={scratch / 'media'}", timeout=20)
    assert (answer.status, answer.body) == (200, str(32 << 20).encode())


SLOW_DISK = """
import gevent as _gevent, io as _io, os as _os
from django.core.files.base import ContentFile as _Content, File as _File
from django.core.files.storage import FileSystemStorage as _Storage
from django.core.files.uploadedfile import InMemoryUploadedFile as _Upload
from django.http import HttpResponse as _Answer

def _bytes_of(reader):
    size = 0
    while True:
        try:
            piece = _os.read(reader, 65536)
        except BlockingIOError:
            _gevent.sleep(0.001)
        else:
            if not piece:
                return size
            size += len(piece)

def slow_disk_view(request):
    what, size = request.GET["what"], 1 << 20
    content = {
        "content": lambda: _Content(b"x" * size),
        "text": lambda: _Content("x" * size),
        "upload": lambda: _Upload(_io.BytesIO(b"x" * size), None, "upload", "text/plain", size, None),
        "file": lambda: _File(_io.BytesIO(b"x" * size)),
    }[what]()
    storage = _Storage(location=request.GET["folder"], allow_overwrite=True)
    path = storage.path(what)
    _os.mkfifo(path)
    reader = _gevent.spawn(_bytes_of, _os.open(path, _os.O_RDONLY | _os.O_NONBLOCK))
    storage.save(what, content)
    return _Answer(str(reader.get()))
"""


def test_others_have_their_turn_while_a_slow_disk_takes_what_a_view_saves_from_memory(
    server: Server, scratch: Path
) -> None:
    """The disk is a pipe that another greenlet empties: were it written to in the hub, it would never be empty."""
    server.project.add_view(SLOW_DISK, "slow_disk_view", "slow-disk/")
    server.start(workers=1)
    (scratch / "media").mkdir()
    for what in ("content", "text", "upload", "file"):
        answer = request(server.address, f"/slow-disk/?folder={scratch / 'media'}&what={what}", timeout=20)
        assert (what, answer.status, answer.body) == (what, 200, str(1 << 20).encode())
