"""Readers of option values: strict about what they take, and each shows what it reads back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker import values
from djworker.problems import UnreadableError
from djworker.values import Kind

LEVEL = values.choice("debug", "info", "warning")


@pytest.mark.parametrize(
    "kind, raw, value",
    [
        (values.WHOLE, "4", 4),
        (values.WHOLE, " 4 ", 4),
        (values.WHOLE, 4, 4),
        (values.WHOLE, "-1", -1),  # the bounds refuse it, with a better sentence
        (values.SECONDS, "90", 90.0),
        (values.SECONDS, "1.5", 1.5),
        (values.SECONDS, "90s", 90.0),
        (values.SECONDS, "5m", 300.0),
        (values.SECONDS, "1h", 3600.0),
        (values.SECONDS, "250ms", 0.25),
        (values.SECONDS, 30, 30.0),
        (values.SECONDS, timedelta(minutes=2), 120.0),
        (values.SIZE, "8190", 8190),
        (values.SIZE, "64k", 65_536),
        (values.SIZE, "10M", 10_485_760),
        (values.SIZE, "10 MiB", 10_485_760),
        (values.SIZE, "10MB", 10_485_760),
        (values.SIZE, "1.5k", 1536),
        (values.SIZE, "100b", 100),
        (values.FLAG, "yes", True),
        (values.ANNOUNCED, "auto", True),
        (values.ANNOUNCED, "V2", True),
        (values.ANNOUNCED, "off", False),
        (values.ANNOUNCED, True, True),
        (values.FLAG, "Off", False),
        (values.FLAG, True, True),
        (values.UMASK, "0o027", 0o027),
        (values.UMASK, "027", 0o027),
        (values.UMASK, "27", 0o027),
        (values.UMASK, 0o027, 0o027),
        (LEVEL, "INFO", "info"),
        (values.FILE, PurePosixPath("/run/app.pid"), "/run/app.pid"),
        (values.FILE, "", None),
        (values.NAME, "www-data", "www-data"),
        (values.PATHS, "/,/products/", ("/", "/products/")),
        (values.PATHS, ["/a", "/b"], ("/a", "/b")),
        (values.PEERS, "10.0.0.0/8, unix,::1,*", ("10.0.0.0/8", "unix", "::1", "*")),
        (values.PEERS, ["127.0.0.1", "127.0.0.1/32"], ("127.0.0.1",)),
        (values.PEERS, [], ()),
        (values.ADDRESSES, ["8000", "unix:/run/a.sock"], ("127.0.0.1:8000", "unix:/run/a.sock")),
        (values.ADDRESSES, 8000, ("127.0.0.1:8000",)),
        (values.ADDRESSES, "0:8000, [::1]:8001", ("0.0.0.0:8000", "[::1]:8001")),
        (values.ADDRESSES, "127.0.0.1:0,127.0.0.1:0", ("127.0.0.1:0", "127.0.0.1:0")),
    ],
)
def test_is_read(kind: Kind[object], raw: object, value: object) -> None:
    assert kind.read(raw) == value


@pytest.mark.parametrize(
    "kind, raw",
    [
        *(
            (values.WHOLE, raw)
            for raw in ("0x10", "+5", "1_0", "1.5", "", "٣", "four", True, 1.0, None, [1], "9" * 400)
        ),
        *(
            (values.SECONDS, raw)
            for raw in ("1e3", "nan", "inf", float("nan"), float("inf"), True, "5 minutes", "", {})
        ),
        *((values.SIZE, raw) for raw in ("10T", "1.0001k", "M", "", "0.5", object(), [10])),
        *((values.ANNOUNCED, raw) for raw in ("v3", "", 1, None)),
        *((values.FLAG, raw) for raw in ("2", "", 1, None, "ja")),
        *((values.UMASK, raw) for raw in ("9", "0x1f", "77777", "", True, 2.0)),
        *((LEVEL, raw) for raw in ("loud", "", 20, None)),
        *((values.FILE, raw) for raw in ("a\nb", 3, "a\0", ["a"], {"a": 1})),
        *((values.PEERS, raw) for raw in ("localhost", "10.0.0.1/8", "1.2.3", 1, "10.0.0.0/33", "unix:/run/x", {})),
        *((values.PATHS, raw) for raw in ("products", "/a b", 1, ["/a", 2], "/\x1b", {})),
        *((values.ADDRESSES, raw) for raw in ("", [], "8000,8000", "x", [None], {}, True, ["8000", "127.0.0.1:8000"])),
    ],
)
def test_is_refused_with_a_remedy(kind: Kind[object], raw: object) -> None:
    with pytest.raises(UnreadableError) as caught:
        kind.read(raw)
    assert caught.value.message
    assert caught.value.hint


@given(st.floats(min_value=0, max_value=86_400).map(lambda seconds: round(seconds, 6)))
def test_a_time_is_shown_as_it_is_read(seconds: float) -> None:
    assert values.SECONDS.read(values.SECONDS.show(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.integers(min_value=0, max_value=0o777))
def test_a_umask_is_shown_as_it_is_read(mask: int) -> None:
    assert values.UMASK.read(values.UMASK.show(mask)) == mask


@given(
    st.sampled_from(
        [values.WHOLE, values.SECONDS, values.SIZE, values.FLAG, values.UMASK, values.ADDRESSES, values.PATHS]
    ),
    st.text(),
)
def test_no_text_breaks_a_reader(kind: Kind[object], text: str) -> None:
    try:
        value = kind.read(text)
    except UnreadableError:
        return
    assert kind.read(kind.show(value)) == value
