"""What is raised where djworker itself is wrong."""

from __future__ import annotations


class Bug(RuntimeError):
    """A promise that the code makes to itself is broken. Its text begins with "bug:"; please report it."""
