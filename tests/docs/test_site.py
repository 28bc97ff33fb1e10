"""What a site does around the server: static files, logs, deploys. One project, served as the page on systemd has it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.docs import shop
from tests.docs.blocks import ROOT, Block, find, runs
from tests.docs.machine import Machine, Process
from tests.docs.service import Service, Unit
from tests.docs.test_commands import ENVIRON, commands
from tests.docs.test_proxies import nginx
from tests.processes.events import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a machine of its own")

SOCKET = "unix:/run/shop/shop.sock"
CSS = re.compile(r'"paths": .*?"admin/css/base.css": "(admin/css/base\.\w+\.css)"', re.DOTALL)
#: What the two commands of systemd's that the pages name do with the service of this test.
SYSTEMCTL = """#!/bin/sh
case "$1" in
    reload) kill -HUP {pid} ;;
    show) echo {pid} ;;
    *) exit 1 ;;
esac
"""


@contextmanager
def served(machine: Machine) -> Iterator[tuple[Service, Process]]:
    """The documented unit, and a ``systemctl`` that knows it."""
    service = Service(machine, Unit(find("howto/deploy.md", "Description=The shop").text))
    with service.running() as process:
        service.systemd.wait_for("READY=1")
        machine.write("/run/bin/systemctl", SYSTEMCTL.format(pid=process.pid)).chmod(0o755)
        yield service, process


def typed(machine: Machine, lines: list[str], user: str = "") -> str:
    """Type these commands in the project's folder, as root or as this user; what they say."""
    environ = {**ENVIRON, "PATH": f"/run/bin:{ENVIRON['PATH']}", "HOME": "/run"}
    return machine.run("sh", "-ec", "\n".join(lines), cwd="/srv/shop", environ=environ, user=user)


@runs("howto/static-files.md", "pip install", "STORAGES = {", "collectstatic", "alias /srv")
def test_static_files_are_served_by_the_application_and_by_nginx(
    machine: Machine, project: Path, blocks: tuple[Block, ...]
) -> None:
    install, settings, collect, proxy = blocks
    shop.append(project / "settings.py", settings.text)
    typed(machine, [*commands(install), *commands(collect)])
    machine.run("chmod", "-R", "a+rX", "/srv/shop/staticfiles")
    manifest = machine.path("/srv/shop/staticfiles/staticfiles.json").read_text()
    found = CSS.search(manifest)
    assert found is not None
    with served(machine):
        answer = machine.request(SOCKET, f"/static/{found[1]}")
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]
        with nginx(machine, proxy.text):
            machine.until_answered("127.0.0.1:80")
            answer = machine.request("127.0.0.1:80", f"/static/{found[1]}")
            assert (answer.status, answer.headers["Content-Type"]) == (200, "text/css")
            assert "djworker" not in answer.headers["Server"]
    machine.run("rm", "-r", "/srv/shop/staticfiles")


@runs("howto/deploy-safely.md", "git -C", "--check --strict", "#!/bin/sh -e")
def test_a_deploy_line_by_line_brings_the_new_release(
    machine: Machine, project: Path, blocks: tuple[Block, ...]
) -> None:
    deploy, check, script = blocks
    machine.write("/srv/shop/requirements.txt", "djworker\n")
    machine.write("/srv/shop/.gitignore", "venv/\ndata/\nstaticfiles/\n__pycache__/\n")
    who = "-c user.name=a -c user.email=a@shop.example"
    typed(machine, ["git init -qb main", "git add -A", f"git {who} commit -qm one"])
    typed(machine, ["git clone -q --bare . /srv/origin", "git clone -q /srv/origin /srv/work"])
    typed(machine, ["git remote add origin /srv/origin", "git fetch -q", "git branch -qu origin/main"])
    shop.append(machine.path("/srv/work/shop/settings.py"), 'RELEASE = "from git"')
    typed(machine, ["cd /srv/work", f"git {who} commit -qam two", "git push -q"])
    with served(machine) as (service, _process):
        typed(machine, commands(check))
        typed(machine, commands(deploy))
        service.systemd.wait_for("RELOADING=1")
        service.systemd.wait_for("READY=1")
        # An old worker may take one more request in its last moment.
        eventually(lambda: machine.request(SOCKET).json()["release"] == "from git", "the release serves")
        machine.write("/run/bin/deploy-shop", script.text).chmod(0o755)
        release(machine, 'RELEASE = "from a pipeline"')
        assert re.search(r"^generation 3 serves$", typed(machine, ["deploy-shop"]), re.MULTILINE)
        eventually(lambda: machine.request(SOCKET).json()["release"] == "from a pipeline", "the next one serves")
        release(machine, "import no_such_module", "wsgi.py")  # which manage.py does not load
        with pytest.raises(AssertionError, match=r"generation 3 serves on: [\s\S]*No module named 'no_such_module'"):
            typed(machine, ["deploy-shop"])
        assert machine.request(SOCKET).json()["release"] == "from a pipeline"


def release(machine: Machine, line: str, file: str = "settings.py") -> None:
    """Append a line to a file in the origin of the project's repository."""
    shop.append(machine.path(f"/srv/work/shop/{file}"), line)
    typed(machine, ["cd /srv/work", "git -c user.name=a -c user.email=a@shop.example commit -qam more", "git push -q"])


@runs("howto/deploy-safely.md", "#!/bin/sh -e", "runs-on: ubuntu-latest", "image: debian:12", "hosts: shop")
def test_each_pipeline_ends_with_the_verdict(blocks: tuple[Block, ...]) -> None:
    script, github, gitlab, ansible = blocks
    *_, migrate, verdict = commands(script)
    assert verdict.endswith("djworkerctl reload --wait")
    for job in (github, gitlab):
        assert job.text.rstrip().endswith(" deploy@shop.example sudo deploy-shop")
    (play,) = yaml.safe_load(ansible.text)
    typed_there = [
        task["ansible.builtin.command"]["cmd"] for task in play["tasks"] if "ansible.builtin.command" in task
    ]
    assert typed_there[-2:] == [migrate, verdict]


@runs("howto/logging.md", "--log-format json", "postrotate", "LOGGING = {")
def test_logs_are_json_and_are_opened_anew(machine: Machine, project: Path, blocks: tuple[Block, ...]) -> None:
    (line,) = commands(blocks[0])
    words = line.removeprefix("djworker ")
    shop.append(project / "settings.py", blocks[2].text)
    (reopen,) = re.findall(r"postrotate\n(.*?)\n *endscript", blocks[1].text, re.DOTALL)
    unit = find("howto/deploy.md", "Description=The shop").text
    service = Service(machine, Unit(unit.replace("shop.wsgi", words)))
    with service.running() as process:
        service.systemd.wait_for("READY=1")
        machine.write("/run/bin/systemctl", SYSTEMCTL.format(pid=process.pid)).chmod(0o755)
        machine.request(SOCKET, "/healthz")
        process.until_said('"/healthz"')
        typed(machine, [reopen])
        process.until_said('"event": "logs_reopened"')
        lines = process.output().splitlines()
        assert all(line.startswith("{") for line in lines), lines


def test_a_running_server_can_be_asked_and_steered(machine: Machine, project: Path) -> None:
    text = (ROOT / "docs" / "howto" / "operate.md").read_text()
    verbs = {words.split()[1]: words for words in re.findall(r"`(djworkerctl [^`]+)`", text)}
    requests, pool, trace, kill, reload = (verbs[name] for name in ("requests", "pool", "trace", "kill", "reload"))
    ask = "import urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:8000/slow', headers={'Host': 'shop.example'}))"
    unit = find("howto/deploy.md", "Description=The shop").text
    service = Service(machine, Unit(unit.replace(SOCKET, "127.0.0.1:8000")))
    with service.running():
        service.systemd.wait_for("READY=1")
        with machine.running("python3", "-c", ask) as client:
            eventually(lambda: "/slow" in typed(machine, [requests], "shop"), "the request is shown")
            assert "pool" in typed(machine, [pool], "shop"), "SQLite has none"
            assert "/slow" in typed(machine, [trace.replace("3", "0")], "shop")
            with pytest.raises(AssertionError, match=rf"name it with --instance {service.pid}\b"):
                typed(machine, ["djworkerctl status"])
            assert typed(machine, [f"djworkerctl status --instance {service.pid}"]), "root names the process"
            (found,) = json.loads(typed(machine, [f"{requests} --json"], "shop"))["requests"]
            typed(machine, [kill.replace(kill.split()[-1], found["id"])], "shop")
            assert client.wait() == 1
            assert "503" in client.output()
        typed(machine, [reload], "shop")
