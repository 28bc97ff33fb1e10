"""Messages: what is sent is what is read, and a stranger's is no reason to fall over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker import messages

TEXT = st.text(max_size=200)
KNOWN = st.one_of(
    st.builds(messages.SpawnWorker, st.integers(), st.integers()),
    st.builds(messages.MoldReady, st.dictionaries(TEXT, st.one_of(st.none(), st.integers(), TEXT, st.lists(TEXT)))),
    st.builds(messages.MoldFailed, TEXT, TEXT, TEXT, TEXT),
    st.builds(messages.WorkerForked, st.integers(), st.integers()),
    st.builds(messages.ForkFailed, st.integers(), TEXT),
    st.just(messages.WorkerReady()),
    st.builds(messages.WorkerBootFailed, TEXT, TEXT),
    st.builds(messages.RecycleWanted, TEXT),
    st.builds(messages.Retire, st.floats(0, 1e6), st.booleans()),
    st.just(messages.ReopenLogs()),
    st.builds(messages.FilesChanged, st.lists(TEXT)),
)


@given(KNOWN)
def test_round_trip(message: messages.Message) -> None:
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
def test_another_version(line: bytes, name: str) -> None:
    message = messages.decode(line)
    assert isinstance(message, messages.Unknown)
    assert message.name == name


@pytest.mark.parametrize("line", [b"", b"{", b"[1, 2, 3]", b"\xff"])
def test_no_message(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own, unpack's own
        messages.decode(line)


def test_the_end_of_a_traceback_is_kept() -> None:
    assert messages.tail("short") == "short"
    cut = messages.tail("a" * 100_000 + "the cause")
    assert cut.endswith("the cause")
    assert len(cut) <= messages.TRACEBACK_LIMIT + 1
