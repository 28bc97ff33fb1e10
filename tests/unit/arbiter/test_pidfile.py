"""The pid file belongs to who wrote it, as long as that one lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from djworker.arbiter.pidfile import Pidfile, PidfileError


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_from_start_to_end(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pidfile = Pidfile(str(path))
    pidfile.create()
    assert path.read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"
    pidfile.remove()
    pidfile.remove()
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "no number\n", "0\n"])
def test_nonsense_is_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pid"
    path.write_text(text)
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_dead_process_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{dead_pid()}\n")
    Pidfile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_living_process_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{os.getppid()}\n")
    pidfile = Pidfile(str(path))
    with pytest.raises(PidfileError, match=f"names process {os.getppid()}"):
        pidfile.create()
    pidfile.remove()
    assert path.read_text() == f"{os.getppid()}\n", "it is not ours to remove"


def test_our_own_pid_of_an_earlier_program_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{os.getpid()}\n")
    Pidfile(str(path)).create()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PidfileError, match="cannot write the pid file"):
        Pidfile(str(tmp_path / "no" / "pid")).create()
