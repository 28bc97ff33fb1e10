"""Addresses are answered where they are asked for, names in a native thread."""

from __future__ import annotations

import socket

import pytest
from gevent import get_hub

from djworker.mold.patches.resolver import Resolver, is_address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2001:db8::7", "0.0.0.0"])
def test_an_address_is_answered_as_by_the_library_and_without_a_thread(host: str) -> None:
    resolver = Resolver()
    resolver.pool.kill()
    assert resolver.getaddrinfo(host, 80, 0, socket.SOCK_STREAM) == socket.getaddrinfo(host, 80, 0, socket.SOCK_STREAM)
    assert resolver.pool.size == 0


def test_an_address_of_another_family_is_refused_as_by_the_library() -> None:
    with pytest.raises(socket.gaierror):
        Resolver().getaddrinfo("::1", 80, socket.AF_INET)


def test_a_name_is_looked_up_in_a_thread() -> None:
    resolver = Resolver()
    assert resolver.getaddrinfo("localhost", 80, socket.AF_INET, socket.SOCK_STREAM)
    assert resolver.pool.size
    get_hub().threadpool.kill()


@pytest.mark.parametrize("host", ["localhost", "1.2.3", "1", "fe80::1%lo", "", "a\0", b"127.0.0.1", None])
def test_what_may_have_to_be_looked_up_is_no_address(host: object) -> None:
    assert not is_address(host)
