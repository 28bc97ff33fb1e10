"""What Django's settings say of proxies, beside ``forwarded_allow_ips``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from djworker.conf.address import Address, Family
from djworker.conf.problems import Problem
from djworker.conf.resolve import DEFAULT, Resolved

__all__ = ["expect", "problems", "served", "trusted", "variables"]

_TRUSTING: Final = ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST", "USE_X_FORWARDED_PORT")
_OPTION: Final = "forwarded_allow_ips"
# [mold] What the server was really started with, which the settings alone do not tell.
_served: list[Resolved] = []


def expect(resolved: Resolved) -> None:
    """[mold] Have the system checks know what is served."""
    _served[:] = [resolved]


def served() -> Resolved | None:
    """Return what the mold was started with; None elsewhere."""
    return _served[0] if _served else None


def trusted(settings: Any) -> tuple[str, ...]:
    """Return the names of those settings that take a proxy's word."""
    return tuple(name for name in _TRUSTING if getattr(settings, name, None))


def variables(settings: Any) -> tuple[str, ...]:
    """Return the variables that the settings take a proxy's word from: no client may set them."""
    header = getattr(settings, "SECURE_PROXY_SSL_HEADER", None)
    return (header[0],) if header and str(header[0]).startswith("HTTP_") else ()


def unsaid(resolved: Resolved) -> bool:
    """Tell whether the option has its default, which knows proxies of this machine alone."""
    return resolved.sources[_OPTION] == DEFAULT


def problems(resolved: Resolved, names: tuple[str, ...], *, redirects: bool = False) -> Iterator[Problem]:
    """Find where Django and the server differ about proxies.

    Args:
        resolved: the configuration, and whether the proxies are named in it.
        names: settings that take a proxy's word: a client may pretend to be one.
        redirects: SECURE_SSL_REDIRECT: a proxy that is not believed gets the same redirect for ever.
    """
    wide = [text for text in resolved.config.bind if _is_wide(Address.parse(text))]
    if names and wide and unsaid(resolved):
        believes = "makes" if len(names) == 1 else "make"
        message = (
            f"{' and '.join(names)} {believes} Django believe header fields of proxies, and every client that reaches"
            f" {', '.join(wide)} can send these: {_OPTION} does not say which machines are proxies"
        )
        hint = f"set {_OPTION} to the proxies' addresses or networks; such fields of all others are then removed"
        yield Problem("W009", message, hint, level="warning")
    elif redirects and not names and wide and unsaid(resolved):
        message = (
            "SECURE_SSL_REDIRECT redirects every request that arrives without TLS, and X-Forwarded-Proto of a proxy on another"
            f" machine, which may reach {', '.join(wide)}, is not believed: its requests are redirected for ever"
        )
        yield Problem("W011", message, f"set {_OPTION} to the proxies' addresses or networks", level="warning")


def _is_wide(address: Address) -> bool:
    """Tell whether other machines may reach it. Of a descriptor that is not known."""
    loopback = address.host.startswith("127.") or address.host in {"::1", "localhost"}
    return address.family in {Family.TCP, Family.TCP6} and not loopback
