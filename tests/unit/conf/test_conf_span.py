"""``2..8`` workers: how it is read, shown, compared and handed on."""

from __future__ import annotations

import copy

import pytest

from djworker.conf.problems import UnreadableError
from djworker.conf.span import Span
from djworker.conf.table import OPTIONS, Config, changes


def test_a_span_is_its_most_where_a_number_is_asked_for() -> None:
    span = OPTIONS["workers"].read("2..8")
    assert (span + 1, span.least, int(span)) == (9, 2, 8)
    assert OPTIONS["workers"].show(span) == str(span) == f"{span}" == "2..8"
    assert repr(span) == "Span(2, 8)"


def test_a_span_of_one_number_is_that_number() -> None:
    read = OPTIONS["workers"].read("4..4")
    assert type(read) is int
    assert read == 4


def test_a_change_between_span_and_number_is_seen() -> None:
    assert Span(2, 8) != 8
    assert 8 != Span(2, 8)  # noqa: SIM300 - the other operand decides, too
    assert Span(2, 8) != Span(3, 8)
    assert Span(2, 8) == Span(2, 8)
    assert len({Span(2, 8), Span(2, 8), Span(3, 8)}) == 2
    assert changes(Config(workers=8), Config(workers=Span(2, 8))) == (("workers",), ())


def test_a_copy_is_the_same() -> None:
    assert copy.deepcopy(Span(2, 8)).least == 2


@pytest.mark.parametrize("text", ["0..4", "8..2", "..4", "2..", "2...4", "a..b", "2..4..8", "-1..4"])
def test_what_is_no_span_is_told(text: str) -> None:
    with pytest.raises(UnreadableError, match=r"give 4, or 2\.\.8"):
        OPTIONS["workers"].read(text)
