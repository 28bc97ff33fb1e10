"""Files whose last descriptor is closed by a native thread."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from djworker.http.bulk import BulkWork, away_from_hub
from djworker.http.filewrapper import FileWrapper
from djworker.http.held import BIG, held


@pytest.fixture(autouse=True)
def _in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BulkWork, "serving", BulkWork())


def turned(work: Any, *arguments: Any) -> bool:
    """Whether others had their turn meanwhile."""
    turns: list[bool] = []
    greenlet = gevent.spawn(turns.append, True)
    work(*arguments)
    had = bool(turns)
    greenlet.join()
    return had


def temporary(size: int) -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - each test closes it in its way
    file.truncate(size)
    return file


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_an_answer_that_was_a_big_temporary_file_is_closed_beside_the_others() -> None:
    assert turned(FileWrapper(temporary(BIG)).close)
    assert not turned(FileWrapper(temporary(BIG - 1)).close)


def test_a_file_that_has_another_name_is_closed_at_once(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"")
    os.truncate(tmp_path / "big", BIG)
    assert not turned(FileWrapper((tmp_path / "big").open("rb")).close)


def test_nothing_is_held_of_what_is_closed_missing_or_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    before = descriptors()
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "missing", tmp_path, ""):
        with held(str(path)):
            assert descriptors() == before
    with held(-1):
        assert descriptors() == before


def test_what_a_native_thread_raises_is_raised_where_it_is_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError):
        away_from_hub(os.stat, "/does/not/exist")
    assert capfd.readouterr() == ("", "")


def test_a_mold_whose_hub_never_turns_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BulkWork, "serving", None)
    assert not turned(FileWrapper(temporary(BIG)).close)


def big_file(folder: Path) -> Path:
    path = folder / "big"
    path.write_bytes(b"")
    os.truncate(path, BIG)
    return path


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_a_path_of_any_kind_is_held(tmp_path: Path, kind: Callable[[Path], Any]) -> None:
    """A project's storage may have a path() that returns no text."""
    path = big_file(tmp_path)

    def remove() -> None:
        with held(kind(path)):
            path.unlink()

    assert turned(remove)
    assert not path.exists()


def test_a_descriptor_is_closed_though_its_request_is_ended_before_a_thread_is_free(tmp_path: Path) -> None:
    pool = gevent.get_hub().threadpool
    pool.apply(int)  # the hub's own descriptors come with the first call
    gate, path, before = threading.Event(), big_file(tmp_path), descriptors()

    def remove() -> None:
        with held(str(path)):
            path.unlink()

    busy: list[Any] = [pool.spawn(gate.wait) for _ in range(pool.maxsize + 1)]  # one waits
    request = gevent.spawn(remove)
    gevent.sleep(0)
    assert not path.exists()
    request.kill()
    gate.set()
    gevent.joinall(busy)
    assert descriptors() <= before


def test_a_descriptor_is_closed_once_where_its_request_is_ended_meanwhile(tmp_path: Path) -> None:
    pool = gevent.get_hub().threadpool
    pool.apply(int)
    path, before = big_file(tmp_path), descriptors()
    with path.open("rb") as file:
        path.unlink()
        request = gevent.spawn(FileWrapper(file).close)
        gevent.sleep(0)
        request.kill()
    pool.join()
    assert descriptors() <= before
