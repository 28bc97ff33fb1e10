"""Messages: what is sent is what is read, and a stranger's is no reason to fall over."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.ipc import messages

TEXT = st.text(max_size=200)
IDS = st.integers(0, messages.HIGHEST_ID)
KNOWN = st.one_of(
    st.builds(messages.SpawnWorker, IDS, IDS),
    st.builds(messages.Probe, IDS, st.lists(TEXT), st.lists(TEXT)),
    st.builds(messages.Probed, IDS, st.lists(TEXT), st.dictionaries(TEXT, st.lists(TEXT))),
    st.builds(messages.MoldReady, st.dictionaries(TEXT, st.one_of(st.none(), st.integers(), TEXT, st.lists(TEXT)))),
    st.builds(messages.MoldFailed, TEXT, TEXT, TEXT, TEXT),
    st.builds(messages.WorkerForked, IDS, IDS),
    st.builds(messages.ForkFailed, IDS, TEXT),
    st.just(messages.WorkerReady()),
    st.builds(messages.WorkerBootFailed, TEXT, TEXT),
    st.builds(messages.RecycleWanted, TEXT),
    st.builds(messages.Retire, st.floats(0, 1e6), st.booleans()),
    st.just(messages.ReopenLogs()),
    st.builds(messages.SetLogLevel, TEXT),
    st.builds(messages.WorkerAsked, IDS, TEXT, st.dictionaries(TEXT, st.one_of(st.none(), st.integers(), TEXT))),
    st.builds(messages.WorkerAnswered, IDS, st.booleans(), TEXT),
    st.builds(messages.FilesChanged, st.lists(TEXT)),
)


@given(KNOWN)
def test_a_message_survives_the_round_trip(message: messages.Message) -> None:
    line = messages.encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert messages.decode(line) == message


@pytest.mark.parametrize(
    "line, name",
    [
        (b'["FutureThing", {"a": 1}]', "FutureThing"),
        (b'["WorkerReady", {"new_field": 1}]', "WorkerReady"),
        (b'["SpawnWorker", {"worker_id": 1}]', "SpawnWorker"),
    ],
)
def test_messages_of_another_version_are_unknown(line: bytes, name: str) -> None:
    message = messages.decode(line)
    assert isinstance(message, messages.Unknown)
    assert message.name == name


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"{", b"[1, 2, 3]", b"\xff", b"null", b'"ab"', b"[]", b"{}", b'["WorkerReady"]', b'["WorkerReady", []]'),
        *(b'[["WorkerReady"], {}]', b"[null, {}]", b'{"a": 1, "b": 2}', b'["WorkerReady", {}, 3]', b"[" * 200_000),
        *(
            b'["Retire", {"grace": 1e999, "empty_backlog": true}]',
            b'["X", {"a": NaN}]',
            b'["X", {"a": -Infinity}]',
            b'["X", {"a": ' + b"9" * 10_000 + b"}]",
        ),
    ],
)
def test_what_is_no_message_is_refused_in_one_way(line: bytes) -> None:
    with pytest.raises(messages.NotAMessageError):
        messages.decode(line)


WRONG = {
    "WorkerForked": ({"worker_id": 1, "pid": -1}, {"worker_id": 1, "pid": "7"}, {"worker_id": 1, "pid": 2**31}),
    "SpawnWorker": ({"worker_id": True, "slot": 1}, {"worker_id": 1.5, "slot": 1}, {"worker_id": None, "slot": 1}),
    "ForkFailed": ({"worker_id": [1], "error": ""}, {"worker_id": 1, "error": 5}),
    "MoldReady": ({"config": []}, {"config": None}, {"config": "workers"}),
    "Probed": (
        {"about": "1", "hosts": [], "answers": {}},
        {"about": 1, "hosts": "*", "answers": {}},
        {"about": 1, "hosts": [], "answers": []},
    ),
    "MoldFailed": ({"stage": 1, "module": "", "error": "", "traceback": ""},),
    "RecycleWanted": ({"reason": {"a": 1}}, {"reason": None}),
    "Retire": (
        {"grace": "1", "empty_backlog": True},
        {"grace": 1, "empty_backlog": 0},
        {"grace": None, "empty_backlog": True},
    ),
    "FilesChanged": ({"paths": "/etc"}, {"paths": [1]}, {"paths": {"a": "b"}}),
}


@pytest.mark.parametrize("name, wrong", [(name, wrong) for name, many in WRONG.items() for wrong in many])
def test_a_value_of_another_type_makes_it_no_message(name: str, wrong: dict[str, object]) -> None:
    with pytest.raises(messages.NotAMessageError, match=f"{name}\\."):
        messages.decode(json.dumps([name, wrong]).encode())


@given(
    st.binary(max_size=500)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_message_or_are_refused(line: bytes) -> None:
    with suppress(messages.NotAMessageError):
        assert messages.decode(line) is not None


def test_every_field_of_every_message_has_a_type_that_is_checked() -> None:
    assert all(messages._CHECKS[cls].keys() == {item.name for item in fields(cls)} for cls in messages._KNOWN.values())


def test_the_end_of_a_traceback_is_kept() -> None:
    assert messages.tail("short") == "short"
    cut = messages.tail("a" * 100_000 + "the cause")
    assert cut.endswith("the cause")
    assert len(cut) <= messages.TRACEBACK_LIMIT + 1
