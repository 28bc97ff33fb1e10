"""Agents that are installed for every run, on a server: each worker is heard. ``make test-agents`` has more of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.agents.agent import AGENTS
from tests.agents.trial import PROGRAM, check_warning, collecting, visit_all
from tests.processes.project import Project
from tests.processes.server import Server


@pytest.mark.parametrize("name", ["New Relic", "New Relic in wsgi.py", "LaunchDarkly when it is first asked"])
def test_an_agent_that_is_shared_is_heard_from_each_worker(
    server: Server, project: Project, scratch: Path, name: str
) -> None:
    agent = AGENTS[name]
    agent.install(project)
    program = (
        [sys.executable, Path(sys.executable).with_name(agent.program[0]), *agent.program[1:]] if agent.program else []
    )
    with collecting(agent, scratch) as (environ, heard):
        server.start(prefix=program, program=PROGRAM, environ=environ, preload_mode="on")
        visit_all(server, heard)
        assert server.stop() == 0


@pytest.mark.parametrize("name", ["Honeybadger", "LaunchDarkly"])
def test_an_agent_whose_threads_no_fork_copies_is_heard_and_told_of(
    server: Server, project: Project, scratch: Path, name: str
) -> None:
    agent = AGENTS[name]
    agent.install(project)
    with collecting(agent, scratch) as (environ, heard):
        server.start(program=PROGRAM, environ=environ, workers=1)
        visit_all(server, heard)
        check_warning(server, agent, "auto")
        assert server.stop() == 0
