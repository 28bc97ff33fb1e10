"""Processes that settings have begun in the command that starts the server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = """
import multiprocessing, os, subprocess, time
sleeper = subprocess.Popen(["sleep", "3600"])
subprocess.Popen(["sleep", "3601"])  # its object is gone
done = subprocess.Popen(["true"])
done.wait()
double = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3602,), name="double", daemon=True)
double.start()
"""
PROGRAM = """
import os, warnings
warnings.simplefilter("ignore")
import settings
from djworker import process
from djworker.start import begun
said = begun.end()
print(len(said), all(word in str(said) for word in ("(sleep 3600)", "(sleep 3601)", "(double)")))
if said:
    print(settings.sleeper.wait(10), settings.double.join(10), settings.double.exitcode)
process.terminate_children()
os._exit(0)
"""


@pytest.mark.parametrize(
    "first, says", [("", "3 True\n-15 None -15\n"), ("import subprocess\n", "0 False\n")], ids=["settings", "manage.py"]
)
def test_what_the_settings_have_begun_ends_and_what_the_program_begins_goes_on(
    tmp_path: Path, first: str, says: str
) -> None:
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "manage.py").write_text(first + PROGRAM)
    done = subprocess.run(
        [sys.executable, "manage.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == says, done.stderr
