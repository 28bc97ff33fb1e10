"""``python -m tests.agents [AGENT …]``: each agent in an environment of its own, beside gunicorn; writes the page of the docs."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.agents.agent import AGENTS, Agent
from tests.agents.trial import PROGRAM, collecting, run
from tests.apps import venv
from tests.processes.events import eventually
from tests.processes.http import Address, request
from tests.processes.project import Project, copy_template, make_template
from tests.processes.server import Server, environment

#: Becomes the agent's own command, if it has one, and then the interpreter of its environment with the words of the server.
_ENTER: Final = """
import os, sys
program = sys.argv[1].split()
words = [*program, sys.executable, *sys.argv[3:]]
os.execv(sys.executable, [sys.executable, *words] if program else words)
"""
_PRELOAD: Final = ("auto", "on", "off")
_PAGE: Final = venv.ROOT / "docs/reference/agents.md"
_HEAD: Final = """# Agents

`make test-agents` installs agents for monitoring, error trackers and feature flags from PyPI, serves the shop with each, and
lets a collector of its own listen. A row is *well* if the collector heard the agent from each of two workers, from the worker
that took the place of a killed one, and from the workers after a reload, and if the stop ended in time. The run writes this
page; `make test` does not include it. [What happens while a project loads](../explanation/loading.md) has the recipes.

| agent | `preload = auto` | `on` | `off` | gunicorn | with what |
|---|---|---|---|---|---|
"""


def main(arguments: Sequence[str]) -> int:
    """Return 0 where all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.agents", description=__doc__)
    parser.add_argument("agents", nargs="*", metavar="AGENT", help=f"Of {', '.join(AGENTS)}.")
    options = parser.parse_args(arguments)
    if unknown := set(options.agents) - set(AGENTS):
        parser.error(f"no such agent: {', '.join(sorted(unknown))}")
    results = _results()
    rows = json.loads(results.read_text()) if results.exists() else {}
    template = Path(tempfile.mkdtemp(prefix="shop-"))
    make_template(template)
    try:
        for name in options.agents or AGENTS:
            rows[name] = _row(AGENTS[name], template)
            print(name, rows[name], flush=True)
            results.write_text(json.dumps(rows))
            _write_page(rows)
    finally:
        shutil.rmtree(template)
    return int(any("fails" in cell for row in rows.values() for cell in row))


def _write_page(rows: Mapping[str, Sequence[str]]) -> None:
    lines = [f"| {name} | {' | '.join(rows[name])} |" for name in AGENTS if name in rows]
    _PAGE.write_text(_HEAD + "\n".join(lines) + "\n")


def _results() -> Path:
    venv.cache().mkdir(parents=True, exist_ok=True)
    return venv.cache() / "agents.json"


def _row(agent: Agent, template: Path) -> list[str]:
    distribution = agent.packages[0].partition("[")[0]
    packages = (*agent.packages, "dj-database-url", "whitenoise", "urllib3")
    python = venv.python_of(f"agent-{distribution.lower()}", packages, common=("gunicorn",))
    versions = venv.versions(python, [distribution, "Django", "gevent", "gunicorn"])
    cells = [_tried(lambda mode=mode: _on_djworker(agent, python, template, mode)) for mode in _PRELOAD]
    cells.append(
        _tried(lambda: _on_gunicorn(agent, python, template)) if agent.under_gunicorn else "has no such signal"
    )
    stamp = dt.datetime.now(dt.UTC).date().isoformat()
    return [*cells, f"{', '.join(f'{name} {version}' for name, version in versions.items())}; {stamp}"]


def _tried(trial: Callable[[], str]) -> str:
    try:
        return trial()
    except Exception as error:  # noqa: BLE001 - one that fails is told of, and the others go on
        print(f"{type(error).__name__}: {str(error)[:4000]}", flush=True)
        return f"fails: {str(error).splitlines()[0][:80] if str(error) else type(error).__name__}"


def _place(agent: Agent, template: Path) -> tuple[Path, Project]:
    scratch = Path(tempfile.mkdtemp(prefix="dj-"))
    project = copy_template(template, scratch / "shop")
    agent.install(project)
    return scratch, project


def _entrance(agent: Agent, python: Path) -> list[str]:
    program = [str(python.parent / agent.program[0]), *agent.program[1:]] if agent.program else []
    return [str(python), "-c", _ENTER, " ".join(program)]


def _on_djworker(agent: Agent, python: Path, template: Path, preload: str) -> str:
    scratch, project = _place(agent, template)
    server = Server(project, scratch)
    try:
        with collecting(agent, scratch) as (environ, heard):
            server.launch(
                prefix=_entrance(agent, python), program=PROGRAM, environ=environ, workers=2, preload_mode=preload
            )
            if preload == "on" and not agent.shares:
                failed = server.wait_for("mold_failed")
                assert failed["stage"] == "leftovers", failed
                assert "testproject/" in failed["error"], failed
                assert server.wait() == 3
                return "refused, with the line"
            server.wait_for("worker_ready", count=2)
            run(server, agent, preload, heard)
        return "well" if agent.shares or preload == "off" else "well, not shared"
    finally:
        with suppress(Exception):
            server.kill_arbiter()
        for pid in server.tree():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(scratch, ignore_errors=True)


def _on_gunicorn(agent: Agent, python: Path, template: Path) -> str:
    scratch, project = _place(agent, template)
    try:
        with collecting(agent, scratch) as (environ, heard), socket.create_server(("127.0.0.1", 0)) as listener:
            words = ["-m", "gunicorn", "-k", "gevent", "--no-control-socket", "-w", "2"]
            command = [*_entrance(agent, python), "", *words, "-b", f"fd://{listener.fileno()}", "testproject.wsgi"]
            _serve(command, project, environ, listener, heard)
        return "well"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _serve(
    command: Sequence[str],
    project: Project,
    environ: Mapping[str, str],
    listener: socket.socket,
    heard: Callable[[int], bool],
) -> None:
    where: dict[str, Any] = {"cwd": project.folder, "env": environment(environ), "pass_fds": [listener.fileno()]}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **where)
    seen: set[int] = set()

    def done() -> bool:
        answer = request(Address(f"127.0.0.1:{listener.getsockname()[1]}"), "/visit")
        assert answer.status == 200, answer.body
        seen.add(int(answer.body.decode().split("-")[1]))
        return len(seen) == 2 and all(map(heard, seen))

    try:
        eventually(done, "the agent is heard from each worker")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(40)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
