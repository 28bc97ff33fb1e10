"""The image and the deployment of the page on containers: built step by step, run read-only, as PID 1 and as any user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.docs import shop
from tests.docs.blocks import Block, find, runs
from tests.docs.container import CONTEXT, Image
from tests.docs.machine import Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a machine of its own")

PAGE = "howto/containers.md"
#: From elsewhere: a server on 127.0.0.1 does not answer there.
ELSEWHERE = "127.0.0.2"
#: Django has so much of an upload in memory at most.
UPLOAD = 20 << 20


@pytest.fixture(scope="module")
def image(machine: Machine) -> Iterator[Image]:
    """What ``docker build .`` makes of the block."""
    shop.make(machine.path(CONTEXT), 'DATABASES["default"]["NAME"] = "/tmp/db.sqlite3"\n')
    machine.write(f"{CONTEXT}/requirements.txt", "djworker[metrics]\n")
    made = Image(machine)
    made.build(find(PAGE, "FROM python").text)
    return made


@runs(PAGE, "FROM python")
def test_the_image_serves_read_only_for_others(machine: Machine, image: Image, blocks: tuple[Block]) -> None:
    assert f"USER {image.user}\n" in blocks[0].text
    (port,) = image.exposed
    address = f"{ELSEWHERE}:{port}"
    with image.running():
        found = machine.until_answered(address).json()
        assert (found["uid"], found["arbiter"]) == (int(image.user), 1)
        sent = machine.request(address, "/upload", body=UPLOAD, file=True)
        assert (sent.status, sent.text) == (200, str(UPLOAD))
        forwarded = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
        seen = machine.request(address, headers=forwarded, source="127.0.0.9").json()
        assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("192.0.2.7", "https")


def test_without_a_folder_for_temporary_files_large_uploads_are_refused(machine: Machine, image: Image) -> None:
    with image.running(tmp=False, user="65432"):
        machine.until_answered(f"{ELSEWHERE}:8000")
        assert machine.request(f"{ELSEWHERE}:8000", "/upload", body=UPLOAD, file=True).status == 503
        assert machine.request(f"{ELSEWHERE}:8000", "/upload", body=1000, file=True).status == 200


def test_a_platform_names_the_port(machine: Machine, image: Image) -> None:
    at = image.command.index("--bind")
    command = [*image.command[:at], *image.command[at + 2 :]]
    with image.running(command, environ={"PORT": "9000"}):
        machine.until_answered(f"{ELSEWHERE}:9000")


@runs(PAGE, "kind: Deployment")
def test_the_deployment_passes_its_own_probes(machine: Machine, image: Image, blocks: tuple[Block]) -> None:
    pod: dict[str, Any] = yaml.safe_load(blocks[0].text)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    with image.running(container["args"], user=str(rights["runAsUser"]), terms=2):
        for probe in ("readinessProbe", "livenessProbe"):
            get = container[probe]["httpGet"]
            answer = machine.until_answered(f"{ELSEWHERE}:{ports[get['port']]}", get["path"], host="10.1.2.3:8001")
            assert answer.text == "ok\n"
        assert machine.request(f"{ELSEWHERE}:{ports['http']}", "/healthz").text == "ok", "who is ready serves"
    (delay,) = (int(word.partition("=")[2]) for word in container["args"] if word.startswith("--shutdown-delay"))
    assert pod["terminationGracePeriodSeconds"] > delay + 30  # the default of graceful_timeout
