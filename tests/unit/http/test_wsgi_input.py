"""wsgi.input against the standard library's BytesIO."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.http.wsgi_input import Input

BLOCKS = st.lists(
    st.lists(st.sampled_from([b"a", b"bc", b"\n", b"d\ne"]), min_size=1, max_size=4).map(b"".join), max_size=6
)
CALLS = st.lists(
    st.tuples(st.sampled_from(["read", "readline", "readlines"]), st.one_of(st.none(), st.integers(-1, 9))), max_size=8
)


def over(blocks: list[bytes]) -> Input:
    rest = iter(blocks)
    return Input(lambda: next(rest, b""))


@given(blocks=BLOCKS, calls=CALLS)
def test_every_call_gives_what_bytesio_gives(blocks: list[bytes], calls: list[tuple[str, Any]]) -> None:
    ours, theirs = over(blocks), io.BytesIO(b"".join(blocks))
    for name, size in calls:
        assert getattr(ours, name)(size) == getattr(theirs, name)(size)
    assert list(ours) == list(theirs)
    assert ours.read() == b""


def test_no_more_is_pulled_than_needed() -> None:
    pulled = []

    def pull() -> bytes:
        pulled.append(1)
        return b"abc\n"

    stream = Input(pull)
    assert stream.read(0) == b""
    assert pulled == []
    assert (stream.read(3), stream.readline()) == (b"abc", b"\n")
    assert len(pulled) == 1


def test_errors_pass_through_and_nothing_is_left_after_the_end() -> None:
    def pull() -> bytes:
        raise OSError("gone")

    stream = Input(pull)
    with pytest.raises(OSError, match="gone"):
        stream.read()
    stream.end()
    assert stream.read() == b""
