"""Makes the mistakes, and writes down what is said of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.unit.mistakes.cases import FILES, Case

TEXTS: Final = Path(__file__).with_name("texts.txt")
ROOT: Final = Path(__file__).resolve().parents[3]
#: Of a line in the log: its time and its process; its fields, which say the same for machines.
_HEAD: Final = re.compile(r"^\[[^]]*\] \[\d+\] ", re.MULTILINE)
_FIELDS: Final = re.compile(r" \((?:id|stage|question|setting|count|alias|generation|names)=.*\)$", re.MULTILINE)
#: Below a line: the traceback.
_BLOCK: Final = re.compile(r"^ {2}[a-z]+:\n(?: {4}.*\n?)+", re.MULTILINE)
#: What any start says.
_USUAL: Final = re.compile(r"^\[INFO\] (?!.*fit to serve).*\n", re.MULTILINE)


def made(cases: Iterable[Case]) -> dict[str, str]:
    """What is said of each, with its exit code."""
    cases = list(cases)
    with tempfile.TemporaryDirectory(prefix="mistakes-") as folder:
        jobs = [_job(case, Path(folder, str(number))) for number, case in enumerate(cases)]
        ended = _run("command", jobs)
        checks = {number: found["become"] for number, found in enumerate(ended) if _checks(found["become"])}
        molds = [{**jobs[number], "argv": ["--check"], "environ": of["environ"]} for number, of in checks.items()]
        for number, found in zip(checks, _run("mold", molds), strict=True):
            ended[number] = {**found, "stderr": ended[number]["stderr"] + found["stderr"]}
        return {str(case): _text(found, job["folder"]) for case, job, found in zip(cases, jobs, ended, strict=True)}


def _checks(become: Any) -> bool:
    return become is not None and "--check" in become["argv"]


def _job(case: Case, folder: Path) -> dict[str, Any]:
    for name, text in {**FILES, **case.files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(filter(None, (FILES.get(name, ""), case.files.get(name, "")))) or text)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ = {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **case.environ}
    return {"argv": shlex.split(case.words), "folder": str(folder), "environ": environ}


def _run(role: str, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-P", str(Path(__file__).with_name("runner.py")), role],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,  # a hundred interpreters, beside whatever else runs
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _text(found: Mapping[str, Any], folder: str) -> str:
    stderr = _USUAL.sub("", _HEAD.sub("", _BLOCK.sub("", found["stderr"])))
    stderr = (
        _FIELDS.sub("", stderr).replace(folder, "/srv/shop").replace(sys.prefix, "PREFIX").replace(str(ROOT), "ROOT")
    )
    stderr = re.sub(r"\b(user) \d+\b", r"\1 N", stderr)
    starts = found["become"] is not None
    return f"{stderr.strip()}\n(it starts)" if starts else f"{stderr.strip()}\nexit code {found['code']}"


def told(texts: str) -> dict[str, str]:
    """The file, case by case."""
    found: dict[str, str] = {}
    for block in filter(None, texts.split("\n\n---\n\n")):
        typed, _, said = block.strip("\n").partition("\n>\n")
        found[typed] = said
    return found


def written(texts: Mapping[str, str]) -> str:
    """The same, as a file."""
    return "\n\n---\n\n".join(f"{typed}\n>\n{said}" for typed, said in texts.items()) + "\n"
