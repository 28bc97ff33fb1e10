"""Header fields that a client sends again and again: what they mean is cached.

A browser's heads differ from request to request in the request line, the cookies and the page that it comes from. All else,
the block of fields, is the same byte for byte, so that what was found out about it the last time holds again. Health checks,
pollers and API clients send whole heads again and again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from djworker.http.grammar import CRLF

if TYPE_CHECKING:
    from collections.abc import Mapping

    Variables = Mapping[str, Any]

__all__ = ["COOKIE", "REFERER", "Memory", "without"]

#: How many are known, and bytes of the longest: at most some 4 MiB a worker with what they mean.
KNOWN: Final = 256
LONGEST: Final = 2048
SEEN: Final = 4096
#: Not to outlive their request.
SECRETS: Final = frozenset({"HTTP_COOKIE", "HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION"})
#: What is left of these in a block is not a plain matter.
NEVER: Final = SECRETS | {"HTTP_REFERER"}
#: What a browser varies. HTTP/2, which proxies translate, has names in lower case.
COOKIE: Final = b"ookie: "
REFERER: Final = b"eferer: "
BEFORE: Final = {COOKIE: (b"\r\nC", b"\r\nc"), REFERER: (b"\r\nR", b"\r\nr")}


class Memory:
    """[worker] Heads and blocks of fields, by their bytes, with the variables that they become."""

    def __init__(self) -> None:
        # Whole heads that have all their fields: method, target, variables.
        self.heads: dict[bytes, tuple[str, str, Variables]] = {}
        self.blocks: dict[bytes, Variables] = {}
        # Hashes of what came once. Another head with the same hash costs nothing but a place among the known.
        self._seen: set[int] = set()

    def came_before(self, text: bytes) -> bool:
        """Say so, from the second time on: what comes once costs and keeps nothing."""
        if len(text) > LONGEST:
            return False
        digest = hash(text)
        if digest in self._seen:
            return True
        if len(self._seen) >= SEEN:
            self._seen.clear()
        self._seen.add(digest)
        return False

    def learn_block(self, block: bytes, variables: Variables) -> None:
        """Keep what a block of fields means, unless there is a secret in it."""
        if not NEVER.isdisjoint(variables):
            return
        if len(self.blocks) >= KNOWN:
            self.blocks.clear()
        self.blocks[block] = variables

    def learn_head(self, head: bytes, method: str, target: str, variables: Variables) -> None:
        """Keep what a head means, whose block is known."""
        if len(self.heads) >= KNOWN:
            self.heads.clear()
        self.heads[head] = (method, target, variables)


def without(block: bytes, mark: bytes) -> tuple[bytes, str]:
    """Take a field out of a block; return the rest and its value. Nothing is taken where that is not a plain matter.

    block: from the end of the request line to the empty line. mark: the field's name from its second letter, colon, blank.
    A field more or less changes nothing for the others: lines that belong to the one before them are refused.
    """
    start = block.find(mark)
    if start < 0 or block[start - 3 : start] not in BEFORE[mark]:
        return block, ""
    end = block.find(CRLF, start)
    value = block[start + len(mark) : end].decode("latin-1")
    if not value or not value.isprintable() or not value.isascii() or value.strip() != value:
        return block, ""
    return block[: start - 3] + block[end:], value
