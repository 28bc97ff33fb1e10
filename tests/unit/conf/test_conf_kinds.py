"""Readers of option values: strict about what they take, and each shows what it reads back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.conf import kinds
from djworker.conf.kinds import Kind
from djworker.conf.problems import UnreadableError

LEVEL = kinds.choice("debug", "info", "warning")


@pytest.mark.parametrize(
    "kind, raw, value",
    [
        (kinds.WHOLE, "4", 4),
        (kinds.WHOLE, " 4 ", 4),
        (kinds.WHOLE, 4, 4),
        (kinds.WHOLE, "-1", -1),  # the bounds refuse it, with a better sentence
        (kinds.SECONDS, "90", 90.0),
        (kinds.SECONDS, "1.5", 1.5),
        (kinds.SECONDS, "90s", 90.0),
        (kinds.SECONDS, "5m", 300.0),
        (kinds.SECONDS, "1h", 3600.0),
        (kinds.SECONDS, "250ms", 0.25),
        (kinds.SECONDS, 30, 30.0),
        (kinds.SECONDS, timedelta(minutes=2), 120.0),
        (kinds.SIZE, "8190", 8190),
        (kinds.SIZE, "64k", 65_536),
        (kinds.SIZE, "10M", 10_485_760),
        (kinds.SIZE, "10 MiB", 10_485_760),
        (kinds.SIZE, "10MB", 10_485_760),
        (kinds.SIZE, "1.5k", 1536),
        (kinds.SIZE, "100b", 100),
        (kinds.FLAG, "yes", True),
        (kinds.ANNOUNCED, "auto", True),
        (kinds.ANNOUNCED, "V2", True),
        (kinds.ANNOUNCED, "off", False),
        (kinds.ANNOUNCED, True, True),
        (kinds.FLAG, "Off", False),
        (kinds.FLAG, True, True),
        (kinds.UMASK, "0o027", 0o027),
        (kinds.UMASK, "027", 0o027),
        (kinds.UMASK, "27", 0o027),
        (kinds.UMASK, 0o027, 0o027),
        (LEVEL, "INFO", "info"),
        (kinds.FILE, PurePosixPath("/run/app.pid"), "/run/app.pid"),
        (kinds.FILE, "", None),
        (kinds.NAME, "www-data", "www-data"),
        (kinds.PATHS, "/,/products/", ("/", "/products/")),
        (kinds.PATHS, ["/a", "/b"], ("/a", "/b")),
        (kinds.PEERS, "10.0.0.0/8, unix,::1,*", ("10.0.0.0/8", "unix", "::1", "*")),
        (kinds.PEERS, ["127.0.0.1", "127.0.0.1/32"], ("127.0.0.1",)),
        (kinds.PEERS, [], ()),
        (kinds.ADDRESSES, ["8000", "unix:/run/a.sock"], ("127.0.0.1:8000", "unix:/run/a.sock")),
        (kinds.ADDRESSES, 8000, ("127.0.0.1:8000",)),
        (kinds.ADDRESSES, "0:8000, [::1]:8001", ("0.0.0.0:8000", "[::1]:8001")),
        (kinds.ADDRESSES, "127.0.0.1:0,127.0.0.1:0", ("127.0.0.1:0", "127.0.0.1:0")),
    ],
)
def test_a_text_is_read_as_its_kind(kind: Kind[object], raw: object, value: object) -> None:
    assert kind.read(raw) == value


def each(kind: Kind[Any], *raws: object) -> list[tuple[Kind[Any], object]]:
    return [(kind, raw) for raw in raws]


@pytest.mark.parametrize(
    "kind, raw",
    [
        *each(kinds.WHOLE, "0x10", "+5", "1_0", "1.5", "", "٣", "four", True, 1.0, None, [1], "9" * 400),
        *each(kinds.SECONDS, "1e3", "nan", "inf", float("nan"), float("inf"), True, "5 minutes", "", {}),
        *each(kinds.SIZE, "10T", "1.0001k", "M", "", "0.5", object(), [10]),
        *each(kinds.ANNOUNCED, "v3", "", 1, None),
        *each(kinds.FLAG, "2", "", 1, None, "ja"),
        *each(kinds.UMASK, "9", "0x1f", "77777", "", True, 2.0),
        *each(LEVEL, "loud", "", 20, None),
        *each(kinds.FILE, "a\nb", 3, "a\0", ["a"], {"a": 1}),
        *each(kinds.PEERS, "localhost", "10.0.0.1/8", "1.2.3", 1, "10.0.0.0/33", "unix:/run/x", {}),
        *each(kinds.PATHS, "products", "/a b", 1, ["/a", 2], "/\x1b", {}),
        *each(kinds.ADDRESSES, "", [], "8000,8000", "x", [None], {}, True, ["8000", "127.0.0.1:8000"]),
    ],
)
def test_is_refused_with_a_remedy(kind: Kind[object], raw: object) -> None:
    with pytest.raises(UnreadableError) as caught:
        kind.read(raw)
    assert caught.value.message
    assert caught.value.hint


@given(st.floats(min_value=0, max_value=86_400).map(lambda seconds: round(seconds, 6)))
def test_a_time_is_shown_as_it_is_read(seconds: float) -> None:
    assert kinds.SECONDS.read(kinds.SECONDS.show(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.integers(min_value=0, max_value=0o777))
def test_a_umask_is_shown_as_it_is_read(mask: int) -> None:
    assert kinds.UMASK.read(kinds.UMASK.show(mask)) == mask


@given(
    st.sampled_from([kinds.WHOLE, kinds.SECONDS, kinds.SIZE, kinds.FLAG, kinds.UMASK, kinds.ADDRESSES, kinds.PATHS]),
    st.text(),
)
def test_no_text_breaks_a_reader(kind: Kind[object], text: str) -> None:
    try:
        value = kind.read(text)
    except UnreadableError:
        return
    assert kind.read(kind.show(value)) == value
