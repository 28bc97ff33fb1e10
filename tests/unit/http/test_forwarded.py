"""What follows from the fields of proxies, by the peer that sends them."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djworker.conf.peers import Peers, canonical
from djworker.http.forwarded import FOR, KNOWN, LONGEST, Forwarding, Standing
from djworker.http.request import FORWARDED, HeadParser, ProtocolError, RequestHead

PROXIES = ("127.0.0.1", "::1", "unix", "10.0.0.0/8", "2001:db8::/32")


def parser(**options: Any) -> HeadParser:
    return HeadParser(max_line=8190, max_fields=100, max_field=8190, **options)


def heeded(*fields: str, peers: tuple[str, ...] = PROXIES, peer: str = "127.0.0.1", **options: Any) -> dict[str, Any]:
    """The variables of a request with these fields, read often: its fields, and then its head, are cached."""
    head = "\r\n".join(("GET /shop/list HTTP/1.1", "Host: shop.example", *fields, "", "")).encode("latin-1")
    forwarding, reader = Forwarding(peers, **options), parser(of_proxies=options.get("extra", ()))
    found = [read(reader, forwarding, head, peer) for _ in range(6)]
    assert found[1:] == found[:-1]
    return found[0]


def read(reader: HeadParser, forwarding: Forwarding, head: bytes, peer: str) -> dict[str, Any]:
    """The variables of one request."""
    environ: dict[str, Any] = {"REMOTE_ADDR": peer, "REMOTE_PORT": "1", "SERVER_PORT": "8000", "SCRIPT_NAME": ""}
    environ |= {"wsgi.url_scheme": "http", "PATH_INFO": ""}
    reader.parse(head, environ, RequestHead())
    if fields := environ.pop(FORWARDED, None):
        forwarding.heed(environ, forwarding.standing(peer, unix=peer == "unix"), fields)
    return environ


REQUESTS = [
    (peer, f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{said}{more}\r\n".encode())
    for peer in ("127.0.0.1", "10.0.0.1", "192.0.2.99")
    for target in ("/shop/a", "/shop/b")
    for host in ("shop.example", "other.example:81")
    for said in (
        "",
        "X-Forwarded-For: 192.0.2.1\r\n",
        "X-Forwarded-For: 192.0.2.2\r\nX-Forwarded-Proto: https\r\n",
        "X-Forwarded-Prefix: /app\r\n",
        "SCRIPT_NAME: /shop\r\n",
    )
    for more in ("", "Cookie: a=1\r\n", "Cookie: a=2\r\nReferer: /x\r\n")
]


def test_what_one_request_has_taught_is_right_for_every_other() -> None:
    """Clients, targets, cookies, believed peers and strangers in any order, on one server and on new ones."""
    forwarding, reader, dice = Forwarding(PROXIES), parser(), random.Random(8)
    expected = [read(parser(), Forwarding(PROXIES), head, peer) for peer, head in REQUESTS]
    for _ in range(5):
        for number in dice.sample(range(len(REQUESTS)), len(REQUESTS)):
            peer, head = REQUESTS[number]
            environ = read(reader, forwarding, head, peer)
            assert environ == expected[number], head
            environ.clear()
    assert any(fields[FORWARDED].meaning for fields in reader._memory.blocks.values() if FORWARDED in fields)


def test_what_is_known_by_heart_depends_on_nothing_else_of_the_request() -> None:
    """The peer is the client itself in the first request, and another proxy in the second."""
    forwarding = Forwarding(PROXIES)
    said = {"HTTP_X_FORWARDED_FOR": "127.0.0.1", "HTTP_X_FORWARDED_PROTO": "http", "HTTP_HOST": "shop.example:80"}
    usual = {"REMOTE_PORT": "1", "SCRIPT_NAME": "", "wsgi.url_scheme": "http"}
    for peer, port in ("127.0.0.1", "80"), ("10.0.0.1", "8000"):
        environ = {**said, **usual, "REMOTE_ADDR": peer, "SERVER_PORT": port, "PATH_INFO": f"/{peer}"}
        forwarding.heed(environ, Standing.BELIEVED)
        assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("127.0.0.1", "")
        assert (environ["SERVER_PORT"], environ["PATH_INFO"]) == ("80", f"/{peer}")
        environ = {**said, **usual, "HTTP_HOST": "shop.example", "PATH_INFO": f"/{peer}"}
        forwarding.heed(environ, Standing.BELIEVED)
        assert environ["SERVER_PORT"] == "80"
    with pytest.raises(ProtocolError):
        forwarding.heed({**said, **usual, "HTTP_X_FORWARDED_SSL": "on"}, Standing.BELIEVED)


def test_no_more_is_known_by_heart_than_has_room() -> None:
    forwarding = Forwarding(PROXIES)
    for number in range(3 * KNOWN):
        forwarding.heed({FOR: f"192.0.2.1:{number}"}, Standing.BELIEVED)
    forwarding.heed({FOR: "192.0.2.1, " * LONGEST}, Standing.BELIEVED)
    known = forwarding._known
    assert len(known) <= KNOWN
    assert max(len(said[0] or "") for said in known) <= LONGEST


@pytest.mark.parametrize(
    "fields, address",
    [
        (["X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
        (["x-forwarded-for: 192.0.2.1"], "192.0.2.1"),
        # What stands before the last that is no proxy, the client has written.
        (["X-Forwarded-For: 127.0.0.1, 192.0.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.1.2.3, 10.3.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: 10.1.2.3, 10.3.2.1"], "10.1.2.3"),
        (["X-Forwarded-For: 192.0.2.1:4711"], "192.0.2.1"),
        (["X-Forwarded-For: [2001:db9::1]:4711"], "2001:db9::1"),
        (["X-Forwarded-For: 2001:DB9:0::1"], "2001:db9::1"),
        (["X-Forwarded-For: ::ffff:192.0.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: ::ffff:c000:201, ::FFFF:0a01:0203"], "192.0.2.1"),
        (["X-Forwarded-For: 192.0.2.1, , ::ffff:10.1.1.1,"], "192.0.2.1"),
        (["X-Forwarded-For: unknown, 10.1.1.1"], "10.1.1.1"),
        (["X-Forwarded-For: unknown"], "127.0.0.1"),
        (["X-Forwarded-For: <script>"], "127.0.0.1"),
        (["X-Forwarded-For: fe80::1%eth0"], "127.0.0.1"),
        (["X-Forwarded-For: 127.1"], "127.0.0.1"),
        (["X-Forwarded-For:"], "127.0.0.1"),
        (["Forwarded: for=192.0.2.1"], "192.0.2.1"),
        (['Forwarded: For="[2001:db9:cafe::17]:4711";proto=http'], "2001:db9:cafe::17"),
        (['Forwarded: for=6.6.6.6, for="192.0.2.1:80" ; by=_me, for=10.1.1.1'], "192.0.2.1"),
        (["Forwarded: for=6.6.6.6", "Forwarded: for=192.0.2.1"], "192.0.2.1"),
        (["Forwarded: for=_hidden;proto=http"], "127.0.0.1"),
        (["Forwarded: proto=http"], "127.0.0.1"),
        (["Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
        # Opera Mini sends both, and the server's own proxy adds to one of them.
        (["Forwarded: for=192.0.2.9;proto=https", "X-Forwarded-For: 192.0.2.9, 192.0.2.1"], "192.0.2.1"),
        (["X-Real-IP: 192.0.2.1"], "127.0.0.1"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(fields: list[str], address: str) -> None:
    assert heeded(*fields)["REMOTE_ADDR"] == address


@pytest.mark.parametrize(
    "fields, scheme, port",
    [
        (["X-Forwarded-Proto: https"], "https", "443"),
        (["X-Forwarded-Proto: HTTPS"], "https", "443"),
        (["X-Forwarded-Proto: http"], "http", "80"),
        (["X-Forwarded-Proto: wss"], "https", "443"),
        (["X-Forwarded-Proto:"], "http", "8000"),
        (["X-Forwarded-Protocol: ssl"], "https", "443"),
        (["X-Forwarded-Ssl: on"], "https", "443"),
        (["X-Forwarded-Ssl: off"], "http", "80"),
        (["X-Forwarded-Ssl: on", "X-Forwarded-Proto: https"], "https", "443"),
        (["X-Forwarded-Proto: https", "X-Forwarded-Port: 8443"], "https", "8443"),
        (["X-Forwarded-Port: 8443"], "http", "8443"),
        (["X-Forwarded-Proto: https", "X-Forwarded-Host: a.example:444"], "https", "444"),
        (["X-Forwarded-Proto: https", "X-Forwarded-Host: [::1]"], "https", "443"),
        (["X-Forwarded-Proto: https,https"], "https", "443"),
        (["X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https, http"], "https", "443"),
        (["X-Forwarded-For: 6.6.6.6, 192.0.2.1", "X-Forwarded-Proto: https, http"], "http", "80"),
        (["Forwarded: for=192.0.2.1;proto=https"], "https", "443"),
        (["Forwarded: for=6.6.6.6;proto=https, for=192.0.2.1;proto=http"], "http", "80"),
        (["Forwarded: for=192.0.2.1;proto=https;host=a.example, for=10.0.0.1;proto=http"], "https", "443"),
        (["Forwarded: proto=https"], "https", "443"),
    ],
)
def test_scheme_and_port_are_the_clients(fields: list[str], scheme: str, port: str) -> None:
    found = heeded(*fields)
    assert (found["wsgi.url_scheme"], found["SERVER_PORT"]) == (scheme, port)
    assert found["HTTP_HOST"] == "shop.example"


def test_of_a_list_django_sees_what_counts() -> None:
    """SECURE_PROXY_SSL_HEADER reads a list at its beginning, where a client may write."""
    found = heeded("X-Forwarded-For: 6.6.6.6, 192.0.2.1", "X-Forwarded-Proto: https, http", "X-Forwarded-Host: b, a")
    assert (found["HTTP_X_FORWARDED_PROTO"], found["HTTP_X_FORWARDED_HOST"]) == ("http", "a")
    assert found["HTTP_X_FORWARDED_FOR"] == "6.6.6.6, 192.0.2.1"


def test_the_host_of_forwarded_is_found_where_django_looks() -> None:
    assert heeded("Forwarded: for=1.2.3.4;host=a.example:81")["HTTP_X_FORWARDED_HOST"] == "a.example:81"
    assert heeded('Forwarded: host="a.example"', "X-Forwarded-Host: A.example")["HTTP_X_FORWARDED_HOST"] == "A.example"


@pytest.mark.parametrize(
    "field, script, path",
    [
        ("X-Forwarded-Prefix: /app", "/app", "/shop/list"),
        ("X-Forwarded-Prefix: /a/b/", "/a/b", "/shop/list"),
        ("X-Forwarded-Prefix: /caf%C3%A9", "/caf\xc3\xa9", "/shop/list"),
        ("X-Forwarded-Prefix: /", "", "/shop/list"),
        ("X-Forwarded-Prefix:", "", "/shop/list"),
        # gunicorn's field: the path still has it.
        ("SCRIPT_NAME: /shop", "/shop", "/list"),
        ("SCRIPT_NAME: /", "", "/shop/list"),
        # It has a dash, so a proxy that guards the other lets it pass.
        ("Script-Name: /shop", "", "/shop/list"),
    ],
)
def test_the_prefix_is_the_script_name(field: str, script: str, path: str) -> None:
    found = heeded(field)
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (script, path)


@pytest.mark.parametrize(
    "fields",
    [
        ["X-Forwarded-Proto: https", "X-Forwarded-Proto: http"],
        ["X-Forwarded-Proto: https", "X-Forwarded-Ssl: off"],
        ["X-Forwarded-Proto: http", "X-Forwarded-Protocol: ssl"],
        ["X-Forwarded-Proto: http", "Forwarded: proto=https"],
        ["X-Forwarded-Proto: https,http"],
        ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https, http"],
        ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.2"],
        ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1, for=192.0.2.2"],
        ["X-Forwarded-Host: a", "X-Forwarded-Host: b"],
        ["X-Forwarded-Host: a", "Forwarded: host=b"],
        ["X-Forwarded-Host: a/b"],
        ["X-Forwarded-Host: a@b:c"],
        ['Forwarded: host="a b"'],
        ["X-Forwarded-Port: 443, 80"],
        ["X-Forwarded-Port: 65536"],
        ["X-Forwarded-Port: x"],
        ["X-Forwarded-Port: -1"],
        ["X-Forwarded-Port: \xb2"],
        ["X-Forwarded-Prefix: //evil.example"],
        ["X-Forwarded-Prefix: //"],
        ["X-Forwarded-Prefix: /a//b"],
        ["X-Forwarded-Prefix: /\\evil.example"],
        ["X-Forwarded-Prefix: app"],
        ["X-Forwarded-Prefix: /a/../b"],
        ["X-Forwarded-Prefix: /a?b"],
        ["X-Forwarded-Prefix: /a, /b"],
        ["X-Forwarded-Prefix: https://evil.example"],
        ["SCRIPT_NAME: /other"],
        ["SCRIPT_NAME: /sho"],
        ["SCRIPT_NAME: /shop", "SCRIPT_NAME: /other"],
        ["Forwarded: for"],
        ["Forwarded: for="],
        ['Forwarded: for="192.0.2.1'],
        ["Forwarded: for=1.2.3.4;for=1.2.3.5"],
        ["Forwarded: for=1.2.3.4 5"],
    ],
)
def test_contradictions_and_nonsense_of_a_proxy_are_refused(fields: list[str]) -> None:
    with pytest.raises(ProtocolError) as caught:
        heeded(*fields)
    assert caught.value.status == 400


LIES = (
    "X-Forwarded-For: 127.0.0.1",
    "X-FORWARDED-PROTO: https",
    "x-forwarded-ssl: on",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Prefix: //evil.example",
    "X-Forwarded-User: root",
    "X-Real-IP: 127.0.0.1",
    "CF-Connecting-IP: 127.0.0.1",
    'Forwarded: for=127.0.0.1;proto=https;;;"',
    "SCRIPT_NAME: /shop",
    "X-Own-Scheme: https",
)


@pytest.mark.parametrize("peer", ["192.0.2.7", "127.0.0.2", "11.0.0.1", "::2"])
def test_a_strangers_fields_are_removed(peer: str) -> None:
    found = heeded(*LIES, "X-Other: stays", peer=peer, extra=["HTTP_X_OWN_SCHEME"])
    assert {name for name in found if name.startswith("HTTP_")} == {"HTTP_HOST", "HTTP_X_OTHER"}
    assert found["REMOTE_ADDR"] == peer
    assert found["PATH_INFO"] == "/shop/list"
    assert not [name for name in found if name.startswith("djworker")]


def test_what_is_left_to_django_comes_as_it_is_and_is_not_believed() -> None:
    found = heeded(*LIES, peer="172.17.0.1", left_to_django=True)
    assert found["HTTP_X_FORWARDED_PROTO"] == "https"
    assert found["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"], found["SCRIPT_NAME"]) == ("172.17.0.1", "http", "")


def test_every_peer_may_be_a_proxy_and_still_no_client_can_lie() -> None:
    found = heeded("X-Forwarded-For: 127.0.0.1, 192.0.2.1", "X-Forwarded-Proto: https", peers=("*",), peer="172.17.0.1")
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("192.0.2.1", "https")
    found = heeded("X-Forwarded-For: 192.0.2.1, 10.0.0.1", peers=("*", "10.0.0.0/8"), peer="unix")
    assert found["REMOTE_ADDR"] == "192.0.2.1"


@pytest.mark.parametrize(
    "peer, unix, believed",
    [
        ("127.0.0.1", False, True),
        ("127.0.0.1", True, False),
        ("::ffff:127.0.0.1", False, True),
        ("10.9.9.9", False, True),
        ("11.0.0.1", False, False),
        ("::1", False, False),
        ("fe80::1%eth0", False, False),
        ("", False, False),
    ],
)
def test_peers_are_known_by_their_address(peer: str, *, unix: bool, believed: bool) -> None:
    assert Peers(("127.0.0.1", "10.0.0.0/8")).have(peer, unix=unix) is believed
    assert Peers(("unix",)).have(peer, unix=unix) is unix
    assert Peers(("*",)).have(peer, unix=unix)
    assert not Peers(()).have(peer, unix=unix)


def test_peers_have_one_spelling() -> None:
    texts = ["127.0.0.1", "::1", "unix", "*", "10.0.0.0/255.0.0.0", "::ffff:10.1.1.1", "2001:DB8::/32", "1.1.1.1/32"]
    wanted = ["127.0.0.1", "::1", "unix", "*", "10.0.0.0/8", "10.1.1.1", "2001:db8::/32", "1.1.1.1"]
    assert [canonical(text) for text in texts] == wanted


FIELDS = st.sampled_from([line.partition(":")[0] for line in LIES])
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=30)


@given(st.lists(st.tuples(FIELDS, VALUES), max_size=5), st.sampled_from(list(Standing)))
def test_noise_is_refused_or_heeded_and_never_an_error_of_ours(
    fields: list[tuple[str, str]], standing: Standing
) -> None:
    environ: dict[str, Any] = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "1", "PATH_INFO": "/"}
    for name, value in fields:
        environ["djworker.script_name" if "_" in name else "HTTP_" + name.upper().replace("-", "_")] = value
    with suppress(ProtocolError):
        Forwarding(PROXIES).heed(environ, standing)
    assert environ["REMOTE_ADDR"]
