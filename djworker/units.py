"""Units: how many of the small one are in the large one."""

from __future__ import annotations

from typing import Final

__all__ = ["KIBIBYTE", "MEBIBYTE", "NANOSECONDS"]

#: In a second.
NANOSECONDS: Final = 1_000_000_000
#: Bytes.
KIBIBYTE: Final = 1 << 10
MEBIBYTE: Final = 1 << 20
