"""Addresses: every spelling that operators use, one canonical text for each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.conf.address import UNIX_PATH_LIMIT, Address, Family
from djworker.conf.problems import UnreadableError


@pytest.mark.parametrize(
    "text, address",
    [
        ("8000", Address(Family.TCP, host="127.0.0.1", port=8000)),
        ("0:8000", Address(Family.TCP, host="0.0.0.0", port=8000)),
        (":8000", Address(Family.TCP, host="0.0.0.0", port=8000)),
        ("0.0.0.0:80", Address(Family.TCP, host="0.0.0.0", port=80)),
        ("localhost:0", Address(Family.TCP, host="localhost", port=0)),
        ("web_1.internal:8000", Address(Family.TCP, host="web_1.internal", port=8000)),
        ("[::]:8000", Address(Family.TCP6, host="::", port=8000)),
        ("[0:0:0:0:0:0:0:1]:8000", Address(Family.TCP6, host="::1", port=8000)),
        ("[fe80::1%eth0]:8000", Address(Family.TCP6, host="fe80::1%eth0", port=8000)),
        ("unix:/run/app.sock", Address(Family.UNIX, path="/run/app.sock")),
        ("unix:///run/app.sock", Address(Family.UNIX, path="/run/app.sock")),
        ("unix:/run/../run//app.sock", Address(Family.UNIX, path="/run/app.sock")),
        ("unix:@shop", Address(Family.UNIX, path="@shop")),
        ("unix:@/a//b", Address(Family.UNIX, path="@/a//b")),
        ("fd://3", Address(Family.FD, fd=3)),
    ],
)
def test_is_read_and_written_canonically(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


def test_a_relative_unix_path_is_relative_to_the_working_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/usr")
    assert Address.parse("unix:app.sock").path == "/usr/app.sock"


@pytest.mark.parametrize(
    "text, part",
    [
        ("", "no port"),
        ("localhost", "no port"),
        ("localhost:", "no port"),
        ("localhost:http", "no port"),
        ("localhost:65536", "no port"),
        ("localhost:+80", "no port"),
        ("localhost:٨٠", "no port"),
        ("::1:8000", "brackets"),
        ("[::zz]:8000", "no IPv6"),
        ("[127.0.0.1]:8000", "no IPv6"),
        ("1.2.3:8000", "no IPv4"),
        ("1.2.3.400:8000", "no IPv4"),
        ("-x:8000", "no host name"),
        ("a b:8000", "no host name"),
        ("http://x:8000", "URL"),
        ("https://x.example/", "TLS"),
        ("/run/x.sock", "unix:/run/x.sock"),
        ("unix:", "needs a path"),
        ("unix:///", "needs a path"),
        ("unix:/a\0b", "needs a path"),
        ("unix:/" + "x" * UNIX_PATH_LIMIT, "bytes"),
        ("unix:@", "needs a name"),
        ("unix:@a\nb", "needs a name"),
        ("unix:@a,b", "needs a name"),
        ("unix:@" + "x" * UNIX_PATH_LIMIT, "bytes"),
        ("fd://", "descriptor"),
        ("fd://x", "descriptor"),
        ("fd://-1", "descriptor"),
    ],
)
def test_what_is_no_address_is_refused(text: str, part: str) -> None:
    with pytest.raises(UnreadableError, match=part) as caught:
        Address.parse(text)
    assert caught.value.hint


@given(st.text(max_size=40))
def test_what_is_read_is_read_again_alike(text: str) -> None:
    try:
        address = Address.parse(text)
    except UnreadableError:
        return
    assert Address.parse(str(address)) == address


@given(st.ip_addresses(), st.integers(min_value=0, max_value=65_535))
def test_every_ip_address_can_be_bound(ip: object, port: int) -> None:
    text = f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}"
    assert str(Address.parse(text)) == text
    assert Address.parse(text).url == f"http://{text}"
