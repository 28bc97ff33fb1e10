"""What a service user may not read is named, where Python says that there is no such module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
#: Everything is imported before: the interpreter itself may be root's.
PROGRAM = """
import importlib, os, sys
from djworker.mold import blame, rights
site, what = sys.argv[1:]
sys.path.insert(0, site)
os.seteuid(65534)
try:
    open(what) if os.sep in what else importlib.import_module(what)
except Exception as error:
    print(rights.complaint(blame.root_of(error)))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A project below a folder that everybody may enter."""
    folder = tmp_path
    while folder != Path("/tmp") and folder != folder.parent:
        folder.chmod(0o755)
        folder = folder.parent
    (tmp_path / "site/shop").mkdir(parents=True)
    for name in ("__init__.py", "settings.py", ".env"):
        (tmp_path / "site/shop" / name).touch()
    return tmp_path / "site"


@pytest.mark.parametrize(
    "closed, what",
    [
        (".", "shop.settings"),
        ("shop", "shop.settings"),
        ("shop/settings.py", "shop.settings"),
        ("shop/.env", "{site}/shop/.env"),
        (".", "{site}/shop/.env"),
    ],
)
def test_what_may_not_be_read_is_named(site: Path, closed: str, what: str) -> None:
    (site / closed).chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(site), what.format(site=site)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"user nobody may not read {(site / closed).resolve()}: open it"), done


def test_a_module_that_is_not_there_is_no_matter_of_rights(site: Path) -> None:
    program = [sys.executable, "-c", PROGRAM.replace("sys.path.insert(0, site)", "sys.path[:] = [site]"), str(site)]
    done = subprocess.run([*program, "shop.gone"], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
