# ruff: noqa: INP001 - Sphinx finds extensions by folder
"""A directive whose text is made from what the code or a test run says, so that it cannot be out of date."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Generated(SphinxDirective):
    """Parses the reStructuredText that ``lines`` makes. A page is made anew when one of the ``sources`` changes."""

    sources: ClassVar[tuple[str | Path | None, ...]]

    def run(self) -> list[nodes.Node]:
        """Make the nodes."""
        for source in self.sources:
            self.env.note_dependency(str(source))
        made = self.parse_text_to_nodes("\n".join(self.lines()), allow_section_headings=True)
        for (
            node
        ) in made:  # their headings are no labels of the whole documentation: several pages have one called "Requests"
            for section in node.findall(nodes.section):
                section["names"].clear()
        return made

    def lines(self) -> Iterator[str]:
        """Return the text to parse."""
        raise NotImplementedError
