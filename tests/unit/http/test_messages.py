"""The table of messages, in every cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.http.messages import GET, REFUSED, SERVED
from tests.unit.http.reading import Outcome, Read, bytewise, read


def cuts(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Return the ways to cut data into pieces."""
    return st.lists(st.integers(1, max(len(data) - 1, 1)), max_size=12, unique=True).map(
        lambda places: [
            data[a:b] for a, b in zip([0, *sorted(places)], [*sorted(places), len(data)], strict=True) if a < b
        ]
    )


def check_served(outcome: Outcome, expected: dict[str, object]) -> None:
    assert (outcome.status, outcome.reason, outcome.unfinished) == (0, "", False)
    (request,) = outcome.requests
    assert {key: seen(request, key) for key in expected} == expected


def seen(request: Read, key: str) -> object:
    if key == "keep":
        return request.head.keep_alive
    if key == "expects":
        return request.head.expects
    return request.body if key == "body" else request.environ.get(key)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_whole_and_bytewise(name: str) -> None:
    data, status = REFUSED[name]
    for pieces in ([data], bytewise(data)):
        outcome = read(pieces)
        assert outcome.status == status, outcome
        assert outcome.requests == []


@pytest.mark.parametrize("name", SERVED)
def test_served_whole_and_bytewise(name: str) -> None:
    data, expected = SERVED[name]
    for pieces in ([data], bytewise(data)):
        check_served(read(pieces), expected)


@given(data=st.data(), name=st.sampled_from(sorted(REFUSED)))
@settings(max_examples=300)
def test_refused_in_any_cut(data: st.DataObject, name: str) -> None:
    message, status = REFUSED[name]
    outcome = read(data.draw(cuts(message)))
    assert (outcome.status, outcome.requests) == (status, [])


@given(data=st.data(), name=st.sampled_from(sorted(SERVED)))
@settings(max_examples=300)
def test_served_in_any_cut(data: st.DataObject, name: str) -> None:
    message, expected = SERVED[name]
    check_served(read(data.draw(cuts(message))), expected)


@given(data=st.data(), names=st.lists(st.sampled_from(sorted(SERVED)), min_size=1, max_size=5))
def test_pipelined_requests_are_the_same_as_single_ones(data: st.DataObject, names: list[str]) -> None:
    message = b"".join(SERVED[name][0] for name in names)
    outcome = read(data.draw(cuts(message)))
    assert outcome.status == 0, outcome
    assert len(outcome.requests) == len(names)
    for name, request in zip(names, outcome.requests, strict=True):
        expected = SERVED[name][1]
        assert {key: seen(request, key) for key in expected} == expected


@given(data=st.data(), name=st.sampled_from(sorted(REFUSED)), before=st.integers(1, 3))
def test_a_refusal_leaves_the_requests_before_it(data: st.DataObject, name: str, before: int) -> None:
    message, status = REFUSED[name]
    outcome = read(data.draw(cuts((GET + b"\r\n") * before + message)))
    assert (outcome.status, len(outcome.requests)) == (status, before)


@pytest.mark.parametrize("name", SERVED)
def test_no_beginning_of_a_message_is_a_message(name: str) -> None:
    data, _ = SERVED[name]
    for length in range(1, len(data)):
        outcome = read([data[:length]])
        # HTTP/1.0's head and a chunked body end where they end; nothing is complete before.
        assert outcome.requests == [], length
        assert outcome.status == 0, (length, outcome)


PLACES = {
    "method": b"GE%bT / HTTP/1.1\r\nHost: a\r\n\r\n",
    "path": b"GET /a%bb HTTP/1.1\r\nHost: a\r\n\r\n",
    "query": b"GET /?a%bb HTTP/1.1\r\nHost: a\r\n\r\n",
    "version": b"GET / HTTP%b/1.1\r\nHost: a\r\n\r\n",
    "after the version": b"GET / HTTP/1.1%b\r\nHost: a\r\n\r\n",
    "name": b"GET / HTTP/1.1\r\nHost: a\r\nX%bA: b\r\n\r\n",
    "value": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b%bc\r\n\r\n",
    "end of value": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b%b\r\n\r\n",
    "before the end": b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n",
    "between CR and LF": b"GET / HTTP/1.1\r\nHost: a\r%b\n\r\n",
}
ALLOWED_CONTROL = {("value", 0x09), ("end of value", 0x09)}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("byte", [*range(0x20), 0x7F])
def test_control_characters_are_refused_everywhere(place: str, byte: int) -> None:
    outcome = read([PLACES[place] % bytes([byte])])
    refused = outcome.status != 0 and not outcome.requests
    assert refused is ((place, byte) not in ALLOWED_CONTROL), outcome


@pytest.mark.parametrize("byte", range(0x80, 0x100))
def test_bytes_above_ascii_are_refused_but_in_values(byte: int) -> None:
    for place, template in PLACES.items():
        outcome = read([template % bytes([byte])])
        assert (outcome.status == 0) is (place in {"value", "end of value"}), (place, outcome)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_noise_is_refused_or_incomplete_but_never_an_error_of_ours(noise: bytes) -> None:
    whole, single = read([noise]), read(bytewise(noise))
    # A fault may be seen earlier in small pieces, so one of the two may still be waiting where the other has refused.
    assert [request.environ for request in whole.requests] == [request.environ for request in single.requests]


MUTATED = (
    b"POST /a?b HTTP/1.1\r\nHost: a\r\nX-B: c\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n"
)


@given(
    place=st.integers(0, len(MUTATED)),
    cut=st.integers(0, 4),
    put=st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b"0", b",", b";", b"\xff", b"chunked"]),
)
@settings(max_examples=500)
def test_a_changed_message_means_the_same_in_every_cut(place: int, cut: int, put: bytes) -> None:
    message = MUTATED[:place] + put + MUTATED[place + cut :]
    whole, single = read([message]), read(bytewise(message))
    # Not the same status: of two faults, the one that is seen first depends on the cut.
    assert bool(whole.status) == bool(single.status)
    assert [(r.environ, r.body) for r in whole.requests] == [(r.environ, r.body) for r in single.requests]
