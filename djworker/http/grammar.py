"""What several parts of HTTP's grammar are made of."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CRLF", "TOKEN", "TOKEN_BYTES", "TOKEN_PATTERN"]

CRLF: Final = b"\r\n"
#: RFC 9110 5.6.2: names of fields and methods, for instance.
TOKEN_PATTERN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - of the grammar
TOKEN: Final = re.compile(TOKEN_PATTERN)
#: Each byte that a token may have.
TOKEN_BYTES: Final = frozenset(byte for byte in range(128) if TOKEN.fullmatch(chr(byte)))
