# ruff: noqa: INP001 - Sphinx finds extensions by folder
"""Sphinx directive that writes the table of packages from the table that the tests run.

The versions are those of the environment that builds the documentation, the tests' environment.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import django
from djworker_generated import Generated

from tests.db.ecosystem import packages

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class Packages(Generated):
    """Each package, its version, what is run, what to know."""

    sources = (packages.__file__,)

    def lines(self) -> Iterator[str]:
        """Return a table."""
        # `make docs` alone installs no packages to test: then nothing can be said of versions.
        tested = find_spec("pytest") is not None
        lacking = "**not run: no release for this Python and this Django**" if tested else "–"
        yield f"With Python {platform.python_version()} and Django {django.get_version()}:"
        yield ""
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 22 10 18 30 20", "")
        yield from _row("package", "version", "on", "what is run", "what to know")
        for package in packages.PACKAGES:
            version = package.version or lacking
            on = ", ".join(packages.LIBRARIES[driver] for driver in package.drivers)
            yield from _row(package.name, version, on, _code(package.run), _code(package.know))
        yield ""


def _row(*cells: str) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'* -' if number == 0 else '  -'} {cell}"


def _code(text: str) -> str:
    return text.replace("`", "``")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("djworker-packages", Packages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
