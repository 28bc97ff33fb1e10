"""What users install is the wheel: it is built, looked into, installed beside nothing else, and started."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import djworker

ROOT = Path(__file__).resolve().parents[2]
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]


def run(*command: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it outside of the checkout, so that nothing but what is installed can be imported."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO", "VIRTUAL_ENV"))
    }
    done = subprocess.run(command, cwd=cwd, env={**kept, **environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """Its METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"djworker-{djworker.__version__}.dist-info/METADATA"))


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {
        f"{path.relative_to(ROOT)}" for path in (ROOT / "djworker").rglob("*") if path.suffix in {".py", ".typed"}
    }
    assert package <= names
    assert {"djworker/py.typed", "djworker/management/commands/runworkers.py"} <= names
    assert {name.partition("/")[0] for name in names} == {"djworker", f"djworker-{djworker.__version__}.dist-info"}
    assert f"djworker-{djworker.__version__}.dist-info/licenses/LICENSE" in names


def test_it_brings_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"djworker-{djworker.__version__}.dist-info/entry_points.txt").decode()
    assert text.split("\n")[:3] == [
        "[console_scripts]",
        "djworker = djworker.__main__:run",
        "djworkerctl = djworker.control.__main__:run",
    ]


def test_it_says_what_it_needs(metadata: Message) -> None:
    assert metadata["Version"] == djworker.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert {"postgres", "postgres2", "mysql", "pymysql", "reload", "dev"} <= set(metadata.get_all("Provides-Extra", []))


def test_no_dependency_has_an_upper_bound(metadata: Message) -> None:
    bounds = [requirement.partition(";")[0] for requirement in metadata.get_all("Requires-Dist", [])]
    assert bounds
    assert not [bound for bound in bounds if any(sign in bound for sign in ("<", "==", "~=", "!="))]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_new_project_passes_the_check(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    # By the pip that is here: to install one, and to compile all of Django, takes longer than everything else.
    run(sys.executable, *PIP, "--python", python, "install", "--no-compile", wheel, cwd=tmp_path)
    run(python, "-m", "django", "startproject", "site1", tmp_path, cwd=tmp_path)
    settings = tmp_path / "site1" / "settings.py"
    settings.write_text(settings.read_text().replace("INSTALLED_APPS = [", 'INSTALLED_APPS = [\n    "djworker",'))
    run(python, "manage.py", "runworkers", "--check", cwd=tmp_path)
    run(sys.executable, *PIP, "--python", python, "check", cwd=tmp_path)
