"""A process that has imported everything, and makes each mistake in a child of its own.

Reads a list of jobs from standard input and writes what became of them to standard output. ``command``: the command line, which
ends, or gives what it would become; ``mold``: what ``--check`` becomes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

if sys.argv[1] == "mold":
    from djworker.mold import main as _mold  # it patches before all others
else:
    from djworker import __main__ as _command
    from djworker.control import commands as _control

import django.conf
import django.core.management
import django.core.wsgi
import django.urls

_ = django.conf, django.core.wsgi, django.urls


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do it in a child; its standard error, its exit code, and what it would have become."""
    with tempfile.TemporaryFile() as stderr, tempfile.TemporaryFile() as become:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _in_child(job, stderr.fileno(), become.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        stderr.seek(0)
        become.seek(0)
        return {"code": code, "stderr": stderr.read().decode(), "become": json.loads(become.read() or "null")}


def _in_child(job: dict[str, Any], stderr: int, become: int) -> None:
    os.dup2(stderr, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environ"])
    sys.argv = job["argv"]
    code: object = 0
    try:
        _ROLES[sys.argv[0] if sys.argv[0] == "--check" else "command"](become)
    except SystemExit as error:
        code = error.code or 0
    except BaseException:  # noqa: BLE001 - it must not come back into the parent's code
        sys.excepthook(*sys.exc_info())  # as an interpreter would
        code = 1
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _be_command(become: int) -> None:
    def execve(_program: str, argv: list[str], environ: dict[str, str]) -> None:
        os.write(become, json.dumps({"argv": argv, "environ": environ}).encode())
        os._exit(0)

    os.execve = execve  # type: ignore[assignment]
    if sys.argv[0] == "manage.py":
        sys.path.insert(0, str(Path.cwd()))
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        django.core.management.execute_from_command_line(sys.argv)
    elif sys.argv[0] == "djworkerctl":
        sys.exit(_control.main(sys.argv[1:]))
    else:
        _command.main(sys.argv[1:])


def _be_mold(_become: int) -> None:
    _mold.main(["--check"])


_ROLES = {"command": _be_command, "--check": _be_mold}

if __name__ == "__main__":
    jobs = json.load(sys.stdin)
    json.dump([run(job) for job in jobs], sys.stdout)
