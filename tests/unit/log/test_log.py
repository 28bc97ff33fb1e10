"""The log: right in form, and harmless whatever happens to what it writes to."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import djworker
from djworker import log
from djworker.log.events import NAMES
from djworker.log.format import EVENT, FIELDS, JSONFormatter, TextFormatter, escape, jsonable
from djworker.log.sink import NOTICE_INTERVAL, FileSink, Sink


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(message: object = "hello", args: object = (), exc_info: Any = None, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("djworker.arbiter", logging.INFO, __file__, 1, message, args, exc_info)  # type: ignore[arg-type]
    setattr(made, FIELDS, fields)
    return made


def some_traceback() -> Any:
    try:
        int("no\x1b[31m")
    except ValueError:
        return sys.exc_info()


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


# -- text


def test_an_event_is_one_line_of_text(stderr: Any) -> None:
    log.configure("info", "text", "arbiter")
    logger = logging.getLogger("djworker.arbiter")
    log.event(logger, logging.INFO, "worker_ready", "worker 0 ready at 100%", slot=0, generation=7, note="")
    assert re.fullmatch(
        r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d{4}\] \[\d+\] \[INFO\] worker 0 ready at 100% "
        r"\(slot=0 generation=7\)\n",
        stderr.read(),
    )


def test_a_traceback_follows_indented() -> None:
    lines = TextFormatter().format(record(exc_info=some_traceback(), slot=1)).split("\n")
    assert lines[0].endswith("hello (slot=1)")
    assert lines[1] == "  traceback:"
    assert all(line.startswith("    ") for line in lines[2:])
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("control", [*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"])
def test_controls_of_bidirectional_text_are_escaped(control: str) -> None:
    """They would show a line in another order than it has: `evil.py` as `yp.live`."""
    lines = TextFormatter().format(record(f"a{control}b", path=f"c{control}d", stack=f"e\n{control}f"))
    assert control not in lines
    assert lines.count(f"\\u{ord(control):04x}") == 3


@given(st.text(), st.text())
def test_nobody_can_forge_a_line(message: str, value: str) -> None:
    first, *rest = TextFormatter().format(record("%s", (message,), url=value)).split("\n")
    assert first.startswith("[")
    assert all(line.startswith("  ") for line in rest)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", first + "".join(rest))


def test_arguments_that_do_not_fit_do_not_lose_the_line() -> None:
    assert "%d of %d <arguments do not fit" in TextFormatter().format(record("%d of %d", ("x",)))
    assert "<unprintable Hostile: RuntimeError>" in TextFormatter().format(record(Hostile(), thing=Hostile()))


# -- JSON

exotic = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers()
    | st.datetimes()
    | st.builds(Hostile)
    | st.builds(lambda: 10**5000),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner) | st.tuples(inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(min_size=1), exotic), st.text())
def test_a_json_line_is_one_valid_line_whatever_is_in_it(fields: dict[str, Any], message: str) -> None:
    made = record("%s", (message,))
    setattr(made, FIELDS, fields)
    setattr(made, EVENT, "worker_ready")
    line = JSONFormatter("worker").format(made)
    assert "\n" not in line
    entry = json.loads(line, parse_constant=pytest.fail)
    assert entry["role"] == "worker"
    assert entry["event"] == "worker_ready"
    assert entry["level"] == "info"
    assert entry["message"] == message


def test_a_json_line_has_the_fields_at_its_top() -> None:
    entry = json.loads(JSONFormatter("arbiter").format(record(slot=3, pid=7, level="high", exc_info=some_traceback())))
    assert entry["slot"] == 3
    assert entry["pid"] == 7  # the process that the event is about
    assert entry["level"] == "info"
    assert entry["level_"] == "high"
    assert (entry["event"], entry["logger"]) == ("log", record().name)
    assert entry["traceback"].startswith("Traceback")


def test_values_that_contain_themselves_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert json.dumps(jsonable(endless))


@given(st.text())
def test_escaping_leaves_one_line(text: str) -> None:
    assert len(escape(text).splitlines()) <= 1


# -- configuration


def test_the_level_and_the_form_can_change(stderr: Any) -> None:
    logger = logging.getLogger("djworker.db")
    log.configure("warning", "text", "worker")
    logger.info("unheard")
    log.configure("info", "json", "worker")
    logger.info("heard")
    (line,) = stderr.read().splitlines()
    assert json.loads(line)["message"] == "heard"


def test_the_projects_logging_does_not_silence_the_server(stderr: Any) -> None:
    log.configure("info", "text", "mold")
    logging.config.dictConfig({"version": 1})  # disable_existing_loggers is true by default
    logger = logging.getLogger("djworker.mold")
    logger.info("still here")
    log.reassert()
    log.reassert()
    assert stderr.read().count("still here") == 1


def test_each_logger_that_the_package_uses_is_kept_from_being_silenced() -> None:
    sources = "".join(path.read_text() for path in Path(djworker.__path__[0]).rglob("*.py"))
    used = set(re.findall(r'getLogger\("(djworker[\w.]*)"', sources))
    assert {"djworker", "djworker.admin"} <= used <= set(NAMES)


def test_what_the_project_attaches_stays(stderr: Any) -> None:
    stream = io.StringIO()
    log.configure("info", "text", "mold")
    handler = {"class": "logging.StreamHandler", "stream": stream}
    logging.config.dictConfig({"version": 1, "handlers": {"x": handler}, "loggers": {"djworker": {"handlers": ["x"]}}})
    log.reassert()
    log.event(logging.getLogger("djworker.worker"), logging.INFO, "worker_ready", "ready")
    assert stream.getvalue() == "ready\n"
    assert stderr.read().count("ready") == 1


# -- the access log


def test_access_lines_go_to_their_file_and_follow_it(loggers: None, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log.configure("info", "text", "worker")
    log.configure_access(str(path))
    log.access_line("one\n", path="/")
    path.rename(tmp_path / "access.log.1")
    log.access_line("two")
    log.reopen()
    log.access_line("three")
    assert (tmp_path / "access.log.1").read_text() == "one\\n\ntwo\n"
    assert path.read_text() == "three\n"


def test_access_lines_as_json(stderr: Any, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log.configure("info", "json", "worker")
    log.configure_access(str(path))
    assert log.wants_fields()
    log.access_line("GET /", status=200)
    entry = json.loads(path.read_text())
    assert (entry["event"], entry["message"], entry["status"]) == ("access", "GET /", 200)
    assert stderr.read() == ""


def test_without_access_log_a_line_costs_nothing_and_goes_nowhere(stderr: Any) -> None:
    log.configure("info", "text", "worker")
    log.configure_access(None)
    log.access_line("GET /")
    assert stderr.read() == ""


def test_a_bad_new_access_log_leaves_the_old_one(loggers: None, tmp_path: Path) -> None:
    log.configure("info", "text", "worker")
    log.configure_access(str(tmp_path / "a"))
    with pytest.raises(OSError, match="No such file"):
        log.configure_access(str(tmp_path / "none" / "b"))
    log.access_line("kept")
    assert (tmp_path / "a").read_text() == "kept\n"


def test_an_access_log_in_trouble_is_told_once(stderr: Any) -> None:
    log.configure("info", "json", "worker")
    log.configure_access("/dev/full")
    for _ in range(5):
        log.access_line("GET /")
    (entry,) = map(json.loads, stderr.read().splitlines())
    assert entry["event"] == "access_log_lost"
    assert entry["error"] == "No space left on device"


# -- sinks in trouble


def test_losses_are_told_at_most_once_a_minute_and_none_is_forgotten() -> None:
    told: list[int] = []
    clock = Clock()
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        sink = Sink(full, lambda lost, error: told.append(lost), clock=clock)
        for _ in range(10):
            sink.write("x")
        assert told == [1]
        clock.now += NOTICE_INTERVAL
        sink.write("x")
        assert told == [1, 10]
    finally:
        os.close(full)


def test_a_sink_that_carries_its_own_notices_waits_until_it_can(tmp_path: Path) -> None:
    told: list[int] = []
    full, good = os.open("/dev/full", os.O_WRONLY), os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    target = os.dup(full)
    try:
        sink = Sink(target, lambda lost, error: told.append(lost), last_resort=True, clock=Clock())
        sink.write("lost")
        sink.write("lost")
        assert told == []
        os.dup2(good, target)
        sink.write("kept")
        assert told == [2]
        assert (tmp_path / "log").read_text() == "kept\n"
    finally:
        for fd in (full, good, target):
            os.close(fd)


def test_a_reader_that_is_gone_hurts_nobody(stderr: Any) -> None:
    log.configure("info", "text", "worker")
    stderr.close_reader()
    for _ in range(3):
        logging.getLogger("djworker.http").info("unheard")


def test_a_reader_that_does_not_read_holds_nobody(pipe: Any) -> None:
    told: list[str | None] = []
    sink = Sink(pipe.writer, lambda lost, error: told.append(error.strerror))
    pipe.fill()
    for _ in range(100):
        sink.write("lost")
    assert told == ["this log is not read"]
    assert "lost" not in pipe.read()


def test_a_line_longer_than_the_pipe_is_cut_and_the_next_starts_afresh(pipe: Any) -> None:
    sink = Sink(pipe.writer)
    sink.write("x" * 1_000_000)
    taken = pipe.read()
    assert set(taken) == {"x"}
    while rest := pipe.read():
        taken += rest
    sink.write("next")
    assert pipe.read() == "\nnext\n"


def test_a_closed_descriptor_hurts_nobody(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "log"))
    sink.close()
    sink.close()
    sink.write("lost")


def test_a_file_that_cannot_be_reopened_stays_in_use(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    told: list[int] = []
    sink = FileSink(str(directory / "a"), lambda lost, error: told.append(lost))
    directory.rename(tmp_path / "moved")
    sink.reopen()
    sink.write("kept")
    sink.close()
    assert (tmp_path / "moved" / "a").read_text() == "kept\n"
    assert told == [1]


# -- under gevent

PATCHED = """
from gevent import monkey
monkey.patch_all()
import logging
from djworker import log
log.configure("info", "json", "worker")
logger = logging.getLogger("djworker.worker")
log.event(logger, logging.INFO, "first", "from the first thread")
# A native thread, as the watchdog's is, while the hub cannot turn.
native = monkey.get_original("_thread", "start_new_thread")
lock = monkey.get_original("_thread", "allocate_lock")()
lock.acquire()
def watch():
    log.event(logger, logging.ERROR, "second", "from a native thread")
    lock.release()
native(watch, ())
lock.acquire()
"""


def test_under_gevent_a_native_thread_can_log_while_the_hub_is_blocked() -> None:
    done = subprocess.run([sys.executable, "-c", PATCHED], capture_output=True, text=True, timeout=60, check=True)
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["first", "second"]
