"""gunicorn's options: each one is known, and people are told what becomes of it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import KNOWN_SETTINGS

from djworker.conf.resolve import resolve
from djworker.conf.table import OPTIONS
from djworker.start import cli, gunicorn_import
from djworker.start.gunicorn import BY_FLAG, BY_NAME, TABLE, Fate, without_versions


def test_every_option_of_gunicorn_is_known_with_its_flags() -> None:
    theirs = {setting.name: tuple(setting.cli or ()) for setting in KNOWN_SETTINGS}
    ours = {name: known.flags for name, known in BY_NAME.items()}
    assert theirs.items() <= ours.items(), "a new one wants a row in djworker/start/gunicorn.py"
    assert len(ours) == sum(len(rows) for rows in TABLE.values()), "each name stands once"


def test_flags_take_as_many_values_as_gunicorns() -> None:
    for setting in KNOWN_SETTINGS:
        none = setting.action in {"store_true", "store_const"}
        expected = 0 if none else setting.nargs or 1
        assert not setting.cli or BY_NAME[setting.name].takes == expected, setting.name


def test_every_row_leads_to_an_option_or_says_a_sentence() -> None:
    flags = {"--chdir", "--pythonpath", "--env", "--check", "--print-config", "MODULE[:APP]"}
    for known in BY_NAME.values():
        if known.fate in {Fate.SAME, Fate.RENAMED}:
            assert known.ours in {*OPTIONS, *flags}, known.name
        else:
            assert len(known.text.split()) > 1, known.name
            assert not known.ours


def test_flags_that_are_the_same_are_taken_by_the_option_itself() -> None:
    for known in BY_NAME.values():
        if known.ours in OPTIONS:
            assert set(known.flags) <= set(OPTIONS[known.ours].flags), known.name


@pytest.mark.parametrize(
    "flag, value, level, part",
    [
        ("-k", "gevent", "warning", "always on"),
        ("--worker-class", "ggevent", "warning", "always on"),
        ("-k", "gthread", "error", "gevent's"),
        ("-k", "uvicorn.workers.UvicornWorker", "error", "gevent's"),
        ("--threads", "4", "warning", "not needed: each request has a greenlet"),
        ("--preload", None, "warning", "loaded once"),
        ("--daemon", None, "error", "foreground"),
        ("-D", None, "error", "foreground"),
        ("--error-logfile", "-", "warning", "standard error"),
        ("--log-file", "/var/log/x", "error", "standard error"),
        ("-c", "prod.py", "error", "import-gunicorn"),
        ("--certfile", "x.pem", "error", "proxy"),
        ("--log-syslog", None, "error", "standard error"),
    ],
)
def test_what_is_said_of_an_option(flag: str, value: str | None, level: str, part: str) -> None:
    (problem,) = cli.answers([(flag, value)])
    assert problem.level == level
    assert part in str(problem)
    assert flag in str(problem)
    assert value is None or value in str(problem)


@pytest.mark.parametrize(
    "words, plain",
    [
        ("--proxy-protocol v2 shop.wsgi", "--proxy-protocol shop.wsgi"),
        ("--proxy-protocol shop.wsgi", "--proxy-protocol shop.wsgi"),
        ("shop.wsgi --proxy-protocol=auto -w 2", "shop.wsgi --proxy-protocol -w 2"),
        ("shop.wsgi --proxy-protocol off", "shop.wsgi --no-proxy-protocol"),
        ("--proxy-protocol=off", "--no-proxy-protocol"),
        ("-n v1 shop.wsgi", "-n v1 shop.wsgi"),
        ("v1", "v1"),
    ],
)
def test_a_version_of_the_proxy_protocol_is_no_word_of_its_own(words: str, plain: str) -> None:
    assert without_versions(words.split()) == plain.split()


def test_every_value_that_gunicorn_has_by_default_is_harmless() -> None:
    for setting in KNOWN_SETTINGS:
        known = BY_NAME[setting.name]
        plain = not callable(setting.default) and setting.default not in (None, "sync")
        if plain and known.fate is Fate.ABSENT and setting.name != "control_socket":
            assert known.is_harmless(setting.default), setting.name


# -- import-gunicorn

FILE = """
import multiprocessing
bind = ["0.0.0.0:8000", "unix:/run/shop.sock"]
workers = multiprocessing.cpu_count() * 0 + 3
worker_class = "gevent"
keepalive = 5
user = 1000
umask = 0o027
pidfile = "/run/shop.pid"
accesslog = "-"
limit_request_line = 0
raw_env = ["SHOP=a b"]
proxy_protocol = "v2"
proxy_allow_ips = "10.0.0.1,10.0.0.2"
forwarded_allow_ips = "*"
certfile = "x.pem"
shop = "is none of gunicorn's"
def post_fork(server, worker):
    pass
"""


def imported(capsys: pytest.CaptureFixture[str], *words: str, environ: dict[str, str]) -> tuple[dict[str, Any], str]:
    assert gunicorn_import.main(words, environ) == 0
    text = capsys.readouterr().out
    (statement,) = ast.parse(text).body
    assert isinstance(statement, ast.Assign)
    return ast.literal_eval(statement.value), text


def test_a_file_becomes_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prod.py").write_text(FILE)
    environ = {"GUNICORN_CMD_ARGS": "--workers 7 --threads 4 --bind 8001"}
    settings, text = imported(capsys, str(tmp_path / "prod.py"), "shop.wsgi", "--timeout", "90", environ=environ)
    assert settings == {
        "BIND": ["127.0.0.1:8001"],
        "WORKERS": 7,
        "TIMEOUT": 90.0,
        "KEEP_ALIVE": 5.0,
        "USER": "1000",
        "UMASK": 0o027,
        "PID": "/run/shop.pid",
        "ACCESS_LOG": "-",
        "PROXY_PROTOCOL": True,
        "PROXY_ALLOW_FROM": ["10.0.0.1", "10.0.0.2"],
        "FORWARDED_ALLOW_IPS": ["*"],
    }
    assert resolve({}, {}, settings, "shop").config.workers == 7
    said = [line for line in text.splitlines() if line.startswith("#")]
    assert said[0] == "# Start: djworker shop.wsgi --env 'SHOP=a b'"
    for part in ("worker_class", "threads", "post_fork(): not offered", "certfile", "pidfile is PID", "out of bounds"):
        assert any(part in line for line in said), part
    assert "is none of gunicorn's" not in text


def test_the_file_that_gunicorn_would_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings, text = imported(capsys, "shop.wsgi", environ={})
    assert settings == {}
    assert text.startswith(f"# Nothing to read was found: no ./gunicorn.conf.py in {tmp_path}")
    (tmp_path / "gunicorn.conf.py").write_text("workers = None")
    assert "Nothing to read" not in imported(capsys, environ={})[1]
    (tmp_path / "gunicorn.conf.py").write_text("workers = 5\nimport os\nos.environ.get('HOME')\n")
    assert imported(capsys, environ={})[0] == {"WORKERS": 5}
    (tmp_path / "other.conf.py").write_text("workers = 6\n")
    environ = {"GUNICORN_CMD_ARGS": "-c other.conf.py"}
    assert imported(capsys, environ=environ)[0] == {"WORKERS": 6}
    (tmp_path / "as_module.py").write_text("workers = 8\n")
    assert imported(capsys, "-c", "python:as_module", environ=environ)[0] == {"WORKERS": 8}


def test_a_file_that_does_not_load_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('not today')")
    assert gunicorn_import.main([str(tmp_path / "broken.py")], {}) == 2
    assert "not today" in capsys.readouterr().err
    assert gunicorn_import.main([str(tmp_path / "missing.py")], {}) == 2
    assert "missing.py cannot be read: No such file or directory" in capsys.readouterr().err
    assert gunicorn_import.main([], {"GUNICORN_CMD_ARGS": "--name 'open"}) == 2
    assert "GUNICORN_CMD_ARGS" in capsys.readouterr().err


def test_flags_stand_for_one_option_each() -> None:
    assert json.dumps(sorted(BY_FLAG))
    assert len(BY_FLAG) == sum(len(known.flags) for known in BY_NAME.values())
