"""The access log's format: gunicorn's atoms, with clients that try to break the line."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker import log
from djworker.conf.table import Config
from djworker.log import access
from djworker.log.access import access_logger, compile_format, stray_percent, unknown_atoms


@dataclass
class Answer:
    """A request that was answered, as the server's Exchange shows it."""

    environ: dict[str, Any] = field(default_factory=dict)
    status: str = "200 OK"
    headers: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0
    started: float = 0.0
    error: str = ""
    reason: str = ""
    phase: str = ""
    pid: int = 0


PLAIN = Answer(
    environ={
        "REMOTE_ADDR": "10.1.2.3",
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/a%20b?q=1",
        "PATH_INFO": "/a b",
        "QUERY_STRING": "q=1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_USER_AGENT": "curl/8",
        "HTTP_X_REQUEST_ID": "r-7",
        "CONTENT_TYPE": "text/plain",
        "HTTP_AUTHORIZATION": "Basic " + base64.b64encode(b"ada:secret").decode(),
        "shop.tenant": "north",
    },
    status="404 Not Found",
    headers=[("Content-Type", "text/html")],
    sent=512,
)


@pytest.mark.parametrize(
    "template,line",
    [
        ("%(h)s %(l)s %(u)s", "10.1.2.3 - ada"),
        ('"%(r)s" %(s)s %(b)s', '"GET /a%20b?q=1 HTTP/1.1" 404 512'),
        ("%(m)s %(U)s %(q)s %(H)s", "GET /a b q=1 HTTP/1.1"),
        ("%(f)s|%(a)s", "-|curl/8"),
        ("%(T)s %(M)s %(D)s %(L)s", "1 1234 1234567 1.234567"),
        ("%(B)s%%", "512%"),
        ("%({x-request-id}i)s %({content-type}i)s %({absent}i)s", "r-7 text/plain -"),
        ("%({content-TYPE}o)s %({shop.tenant}e)s", "text/html north"),
        ("nothing", "nothing"),
    ],
)
def test_atoms_are_those_of_gunicorn(template: str, line: str) -> None:
    assert compile_format(template)(PLAIN, 1.2345671) == line


def test_the_process_and_the_time() -> None:
    line = compile_format("%(p)s %(t)s")(PLAIN, 0.0)
    assert re.fullmatch(rf"<{os.getpid()}> \[\d\d/[A-Z][a-z]{{2}}/\d{{4}}:\d\d:\d\d:\d\d [+-]\d{{4}}\]", line)


def test_every_documented_atom_exists() -> None:
    templates = [f"%({name})s" for name in access.ATOMS]
    assert [template for template in templates if unknown_atoms(template)] == []
    assert compile_format(" ".join(templates))(Answer(), 0.0)
    assert not unknown_atoms(Config().access_log_format)


@pytest.mark.parametrize("template,unknown", [("%(x)s %(h)s %({a}z)s", ["%(x)s", "%({a}z)s"]), ("%(h)s", [])])
def test_unknown_atoms_are_found(template: str, unknown: list[str]) -> None:
    assert unknown_atoms(template) == unknown


def test_lone_per_cent_signs_are_found() -> None:
    assert all(map(stray_percent, ["100%", "%(h)d", "%%%"]))
    assert not any(map(stray_percent, ["%%", "%(h)s", ""]))


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic ???", "Bearer x", "Basic " + base64.b64encode(b"\xff:x").decode(), "Basic Og=="]
)
def test_users_that_cannot_be_read(header: str) -> None:
    assert compile_format("%(u)s")(Answer({"HTTP_AUTHORIZATION": header}), 0.0) == "-"


def test_quotes_of_a_client_cannot_end_a_quoted_atom() -> None:
    answer = Answer({"HTTP_USER_AGENT": 'x" 200 "\\'})
    assert compile_format('"%(a)s"')(answer, 0.0) == '"x\\" 200 \\"\\\\"'


@pytest.mark.parametrize(
    "user,word",
    [("ada lovelace", "ada\\x20lovelace"), ("a\u2003b", "a\\u2003b"), ("\n", "\\x0a"), ('a "', 'a\\x20\\"')],
)
def test_blanks_in_a_user_name_shift_no_field(user: str, word: str) -> None:
    header = "Basic " + base64.b64encode(f"{user}:secret".encode()).decode()
    assert compile_format("%(u)s %(s)s")(Answer({"HTTP_AUTHORIZATION": header}, "200 OK"), 0.0) == f"{word} 200"


@given(st.dictionaries(st.sampled_from(sorted(PLAIN.environ)), st.text()), st.text(), st.integers(), st.floats(0, 1e6))
def test_no_client_breaks_the_line(environ: dict[str, Any], status: str, sent: int, seconds: float) -> None:
    line = compile_format(Config().access_log_format)
    assert line(Answer(environ, status, [], sent), seconds)


def test_a_request_is_one_json_line(loggers: None, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log.configure("info", "json", "worker")
    log.configure_access(str(path))
    access_logger("%(m)s %(U)s", clock=lambda: 2.5)(Answer({"REQUEST_METHOD": "PUT", "PATH_INFO": "/x"}, sent=3))
    entry = json.loads(path.read_text())
    assert entry["message"] == "PUT /x"
    assert (entry["method"], entry["path"], entry["status"], entry["bytes"], entry["seconds"]) == (
        "PUT",
        "/x",
        200,
        3,
        2.5,
    )


def test_json_is_one_object_a_line_whatever_the_client_sent() -> None:
    hostile = Answer(
        environ={"REQUEST_METHOD": "GET", "PATH_INFO": '/"\n\ud800\x1b', "REMOTE_ADDR": "::1"}, reason="cut"
    )
    for answered, status in ((PLAIN, 404), (hostile, 200)):
        line = access.json_line(answered, 0.0125)
        assert line.isprintable()
        found = json.loads(line)
        assert (found["status"], found["seconds"], found["pid"]) == (status, 0.0125, os.getpid())
        assert found["path"] == answered.environ["PATH_INFO"]
        assert found["reason"] == answered.reason
        assert found["time"].endswith("+00:00")


def test_the_format_json_is_known_to_the_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "access_line", lambda line, **_fields: lines.append(line))
    access_logger("json", clock=lambda: 2.0)(PLAIN)
    assert json.loads(lines[0])["seconds"] == 2.0
