"""The units of the page on systemd: as systemd reads them, and as it runs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs import shop
from tests.docs.blocks import Block, runs
from tests.docs.machine import UID, Machine, program
from tests.docs.service import NOTIFY, Service, Unit, verify

PAGE = "howto/deploy.md"
ROOT = os.geteuid() == 0
SOCKET = "unix:/run/shop/shop.sock"
pytestmark = pytest.mark.skipif(not ROOT, reason="only root has a machine of its own")


def with_lines(unit: str, lines: str, *without: str) -> str:
    """The unit with the lines of another block, in the place of those of these names."""
    kept = [line for line in unit.splitlines() if not line.startswith(without)]
    at = kept.index("[Service]") + 1
    return "\n".join([*kept[:at], *lines.splitlines(), *kept[at:]]) + "\n"


@runs(PAGE, "Description=The shop")
def test_the_unit_is_one_for_systemd(machine: Machine, blocks: tuple[Block]) -> None:
    assert verify(machine, blocks[0].text) == ""


@runs(PAGE, "Description=The shop")
def test_the_unit_serves_another_users_proxy(machine: Machine, project: Path, blocks: tuple[Block]) -> None:
    service = Service(machine, Unit(blocks[0].text))
    timeout = 30  # the option's default, which the text on WatchdogSec speaks of
    assert int(service.unit.one("WatchdogSec")) > 2 * timeout
    assert int(service.unit.one("TimeoutStopSec")) > timeout
    with service.running():
        service.systemd.wait_for("READY=1")
        service.systemd.wait_for("WATCHDOG=1")
        answer = machine.request(SOCKET).json()
        assert (answer["release"], answer["uid"]) == ("one", UID)
        assert machine.path("/run/shop").stat().st_uid == UID
        shop.append(project / "settings.py", 'RELEASE = "two"')
        assert service.reload(), "it is over when the new code serves"
        assert machine.request(SOCKET).json()["release"] == "two"
    assert not machine.path("/run/shop/shop.sock").exists()


@runs(PAGE, "Description=The shop")
def test_a_reload_of_code_that_cannot_serve_fails(machine: Machine, project: Path, blocks: tuple[Block]) -> None:
    service = Service(machine, Unit(blocks[0].text))
    with service.running():
        service.systemd.wait_for("READY=1")
        urls = (project / "urls.py").read_text()
        (project / "urls.py").write_text(urls.replace("def home(request):", "def home(request):\n    raise ValueError"))
        assert not service.reload()
        assert "reload failed: " in service.systemd.wait_for("STATUS=reload failed")
        (project / "urls.py").write_text(urls)
        assert service.reload()


@runs(PAGE, "Description=The shop", "--chdir /srv/shop/current")
def test_a_link_to_another_release_is_entered_by_a_reload(machine: Machine, blocks: tuple[Block, Block]) -> None:
    for release in ("one", "two"):
        machine.run("mkdir", "-p", f"/srv/shop/releases/{release}")
        machine.run("cp", "-r", "/srv/shop/shop", "/srv/shop/manage.py", f"/srv/shop/releases/{release}")
        shop.append(machine.path(f"/srv/shop/releases/{release}/shop/settings.py"), f'RELEASE = "release {release}"')
    machine.run("ln", "-sfn", "/srv/shop/releases/one", "/srv/shop/current")
    text = with_lines(blocks[0].text, blocks[1].text, "WorkingDirectory", "ExecStart")
    assert verify(machine, text) == ""
    service = Service(machine, Unit(text))
    with service.running():
        service.systemd.wait_for("READY=1")
        assert machine.request(SOCKET).json()["release"] == "release one"
        machine.run("ln", "-sfn", "/srv/shop/releases/two", "/srv/shop/current")
        assert service.reload()
        assert machine.request(SOCKET).json()["release"] == "release two"


@runs(PAGE, "Description=The shop", "[Socket]")
def test_the_socket_of_systemd_is_served(machine: Machine, blocks: tuple[Block, Block]) -> None:
    text = blocks[0].text.replace(" --bind unix:/run/shop/shop.sock", "")
    assert verify(machine, text) == ""
    assert verify(machine, blocks[1].text, "shop.socket") == "", "the service of this name lies beside it"
    path = Unit(blocks[1].text).one("ListenStream")
    service = Service(machine, Unit(text))
    names = [word for name in service.environ() for word in ("-E", name)]
    # As root, as systemd does it; the command it begins is the service's.
    activate = (program("systemd-socket-activate"), f"--listen={path}", *names, "-E", "WATCHDOG_PID", "--")
    become = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
    with service.running((*activate, *become), user="") as process:
        process.until_said("Listening on")
        assert machine.request(f"unix:{path}").json()["uid"] == UID
        service.systemd.wait_for("READY=1")
    assert NOTIFY
