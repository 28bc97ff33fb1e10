"""[mold] gevent's patch of the standard library, which comes before everything else.

gevent asks for its plugins before and after each module that it patches, 25 times in all. Each answer reads the metadata of
every package that is installed: with 170 of them that is 40 % of the CPU time of the patch, a tenth of a second in each mold.
Here they are read once.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

from gevent import monkey

if TYPE_CHECKING:
    from collections.abc import Iterator


def patch_all() -> None:
    """As gevent's, with the same plugins."""
    with _read_once():
        monkey.patch_all()


@contextmanager
def _read_once() -> Iterator[None]:
    """Nothing is installed while the standard library is patched, so the first answer is right for all."""
    read = metadata.entry_points
    found: list[Any] = []

    def entry_points(**wanted: Any) -> Any:
        if not found:
            found.append(read())
        return found[0].select(**wanted)

    metadata.entry_points = entry_points
    try:
        yield
    finally:
        metadata.entry_points = read
