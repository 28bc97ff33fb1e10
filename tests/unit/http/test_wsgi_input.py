"""wsgi.input against the standard library's BytesIO."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.http.wsgi_input import WHOLE, Input
from djworker.ipc.contract import READ_SIZE

BLOCKS = st.lists(
    st.lists(st.sampled_from([b"a", b"bc", b"\n", b"d\ne"]), min_size=1, max_size=4).map(b"".join), max_size=6
)
CALLS = st.lists(
    st.tuples(st.sampled_from(["read", "readline", "readlines"]), st.one_of(st.none(), st.integers(-1, 9))), max_size=8
)


def over(blocks: list[bytes]) -> Input:
    rest = iter(blocks)
    return Input(lambda _: next(rest, b""))


@given(blocks=BLOCKS, calls=CALLS)
def test_every_call_gives_what_bytesio_gives(blocks: list[bytes], calls: list[tuple[str, Any]]) -> None:
    ours, theirs = over(blocks), io.BytesIO(b"".join(blocks))
    for name, size in calls:
        assert getattr(ours, name)(size) == getattr(theirs, name)(size)
    assert list(ours) == list(theirs)
    assert ours.read() == b""


def test_no_more_is_pulled_than_needed() -> None:
    pulled = []

    def pull(_: int) -> bytes:
        pulled.append(1)
        return b"abc\n"

    stream = Input(pull)
    assert stream.read(0) == b""
    assert pulled == []
    assert (stream.read(3), stream.readline()) == (b"abc", b"\n")
    assert len(pulled) == 1


def test_a_large_read_receives_what_it_returns_and_small_ones_share_a_block() -> None:
    asked = []

    def pull(most: int) -> bytes:
        asked.append(most)
        return b"x" * (most if len(asked) > 1 else most - 100)

    stream = Input(pull)
    assert [len(stream.read(WHOLE)) for _ in range(2)] == [WHOLE] * 2
    assert asked == [WHOLE, 100, WHOLE]
    assert [len(stream.read(1)) for _ in range(2)] == [1] * 2
    assert asked[3:] == [READ_SIZE]


def test_errors_pass_through_and_nothing_is_left_after_the_end() -> None:
    def pull(_: int) -> bytes:
        raise OSError("gone")

    stream = Input(pull)
    with pytest.raises(OSError, match="gone"):
        stream.read()
    stream.end()
    assert stream.read() == b""
