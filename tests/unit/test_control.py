"""The control protocol's texts: what a request may be, what a verb takes, which socket is whose."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.control import client, places, text
from djworker.control.commands import build_parser
from djworker.control.gathering import gather
from djworker.control.protocol import VERSION, Reply, Request, UnreadableLineError
from djworker.control.verbs import VERBS, BadRequestError, read_arguments

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists)


@given(st.text(), st.dictionaries(st.text(), JSON))
def test_a_request_is_read_as_it_was_written(verb: str, arguments: dict[str, object]) -> None:
    line = Request(verb, arguments).encode()
    assert line.count(b"\n") == 1
    assert Request.decode(line) == Request(verb, arguments)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_request_or_refused(line: bytes) -> None:
    with suppress(UnreadableLineError):
        Request.decode(line)


@pytest.mark.parametrize(
    "line, reason",
    [
        (b"[]", "not an object"),
        (b"{}", "no request"),
        (b'{"version": 1, "verb": 7}', "no request"),
        (b'{"version": 1, "verb": "scale", "arguments": []}', "no request"),
        (b'{"version": 99, "verb": "status"}', f"speaks version 99, this server {VERSION}"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(line: bytes, reason: str) -> None:
    with pytest.raises(UnreadableLineError, match=reason.replace("[", r"\[")):
        Request.decode(line)


def test_a_line_of_an_answer_is_read_as_it_was_written() -> None:
    reply = Reply("progress", {"event": "mold_ready", "message": "é\n"})
    assert Reply.decode(reply.encode()) == reply
    assert Reply.decode(Reply("refused", {"reason": "x"}).encode()).is_last
    with pytest.raises(UnreadableLineError):
        Reply.decode(b'{"version": 1, "kind": "poem"}')


@pytest.mark.parametrize(
    "verb, given, reason",
    [
        ("scale", {}, "scale needs workers: a whole number from 1 to 1024"),
        ("scale", {"workers": 0}, "give a whole number from 1 to 1024"),
        ("top", {"count": -1}, "give a whole number of at least 0"),
        ("scale", {"workers": True}, "workers is True"),
        ("scale", {"workers": 1.5}, "workers is 1.5"),
        ("scale", {"workers": 1, "speed": 2}, "takes no argument 'speed'; it takes workers"),
        ("status", {"x": 1}, "it takes none"),
        ("reload", {"timeout": float("nan")}, "a number from 0.1 to 3600"),
        ("recycle", {"slot": -1}, "slot is -1"),
        ("log-level", {"level": "loud"}, "one of debug, info, warning, error, critical"),
        ("log-level", {}, "log-level needs level"),
    ],
)
def test_arguments_that_a_verb_does_not_take_are_named(verb: str, given: dict[str, object], reason: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        read_arguments(VERBS[verb], given)
    assert reason in str(caught.value)


def test_arguments_that_are_not_given_have_their_defaults() -> None:
    assert read_arguments(VERBS["reload"], {}) == {"wait": False, "timeout": 600.0}
    assert read_arguments(VERBS["recycle"], {}) == {"slot": None}


def test_the_command_line_knows_every_verb_of_the_table() -> None:
    parser = build_parser("djworkerctl")
    words = {"scale": ["3"], "log-level": ["DEBUG"], "kill": ["x"], "pause": ["default"], "resume": ["default"]}
    for verb in VERBS.values():
        if not verb.hidden:
            options = vars(parser.parse_args([verb.name, *words.get(verb.name, [])]))
            assert options["verb"] == verb.name
            assert ("json" in options) is verb.reads
    assert parser.parse_args(["--instance", "7", "status"]).instance == "7"
    assert parser.parse_args(["status", "--instance", "7"]).instance == "7"


def test_an_address_says_whose_it_is_and_of_which_project(tmp_path: Path) -> None:
    project = places.directories([str(tmp_path)])
    address = places.new_address(project, 1000, 4242)
    match = places._ABSTRACT.fullmatch(address)
    assert match is not None
    assert (match[1], match[2]) == ("1000", "4242")
    assert places.fingerprint(str(tmp_path)) in match[3].split("-")
    assert places.new_address(project, 1000, 4242) != address


def test_a_client_waits_for_room_in_a_full_queue(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with ExitStack() as open_sockets, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        open_sockets.enter_context(client.connect(path, 10))  # listen(2): one more than the backlog
        with pytest.raises(BlockingIOError):
            client.connect(path, 0.05)
        taken = Thread(target=lambda: open_sockets.enter_context(listener.accept()[0]))
        taken.start()
        open_sockets.enter_context(client.connect(path, 10))
        taken.join()


def test_a_directory_is_known_by_its_links_too(tmp_path: Path) -> None:
    release, current = tmp_path / "release", tmp_path / "current"
    release.mkdir()
    current.symlink_to(release)
    assert {str(release), str(current)} <= places.directories([str(current)])
    assert places.directories(["relative"]) == set()


@given(st.text())
def test_nothing_reaches_a_terminal_that_it_would_obey(said: str) -> None:
    for shown in (text.printable(said), text.block(said).replace("\n", "")):
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)


def test_numbers_stand_right_in_a_table() -> None:
    assert text.table(["n", "name"], [[1, "a"], [20, "bb"]]) == " n  name\n 1  a\n20  bb"
    assert text.table(["n"], []) == "n"
    assert json.dumps(text.progress({"message": "a\x1b[2J"})) == '"a\\\\x1b[2J"'


def test_requests_that_did_not_find_room_are_counted() -> None:
    worker = {"slot": 3, "generation": 1, "pid": 7, "answered": True, "by": "hub", "note": "", "left_out": 120}
    said = text.render("requests", {"requests": [], "workers": [worker, worker | {"slot": 4, "left_out": 0}]})
    assert [line for line in said.splitlines() if "120" in line] == [
        "worker 3 of generation 1, pid 7: 120 more requests are not shown"
    ]
    assert "worker 4" not in said


@pytest.mark.parametrize(
    "databases, worker, said",
    [
        ({"default": True}, {"answered": True}, "no pools yet: no worker has used 'default'"),
        ({"default": False}, {"answered": True}, "no pools: these databases have none: 'default' (engine)"),
        ({"default": True, "files": False}, {"answered": True}, "no pools yet: no worker has used 'default'"),
        ({}, {"answered": True}, "no pools: DATABASES names no database"),
        ({}, {"answered": False}, "no pools are known: no worker has answered"),
    ],
)
def test_the_reason_why_there_is_no_pool_is_said(
    databases: dict[str, bool], worker: dict[str, bool], said: str
) -> None:
    found = [{"alias": alias, "engine": "engine", "pooled": pooled} for alias, pooled in databases.items()]
    answering = {"slot": 3, "generation": 1, "pid": 7, "by": "hub", "note": "", **worker}
    assert text.render("pool", {"pools": [], "databases": found, "workers": [answering]}).splitlines()[0] == said


def test_what_a_worker_says_wrongly_is_its_own_note() -> None:
    """The others' answers are shown all the same."""
    workers = [{"worker": number, "slot": number, "generation": 1, "pid": 100 + number} for number in range(4)]
    result = {
        "workers": [
            workers[0] | {"answered": True, "note": ""},
            workers[1] | {"answered": True, "note": ""},
            workers[2] | {"answered": False, "note": "it does not answer"},
            workers[3] | {"answered": True, "note": ""},
        ]
    }
    said = {0: '{"requests": [{"age": 1.0}], "by": "hub"}', 1: '{"requests": [', 3: '{"error": "KeyError: 1"}'}
    answer = gather("requests", result, said)
    assert [request["slot"] for request in answer["requests"]] == [0]
    assert [worker["note"] for worker in answer["workers"]] == [
        "",
        "its answer cannot be read",
        "it does not answer",
        "it failed to answer: KeyError: 1",
    ]
    assert not any("worker" in worker for worker in answer["workers"]), "the arbiter's own numbers are not shown"


def test_a_request_that_no_worker_knows_is_not_ended() -> None:
    silent = {"worker": 1, "slot": 1, "generation": 1, "pid": 7, "answered": False, "note": "it starts"}
    answer = gather("kill", {"workers": [silent]}, {})
    assert answer["refused"] == "no request in flight has this id; not known: slot 1: it starts"
