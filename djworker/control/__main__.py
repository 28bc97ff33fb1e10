"""``python -m djworker.control`` and the console script ``djworkerctl``."""

from __future__ import annotations

import sys

from djworker.control.commands import main

__all__ = ["run"]


def run() -> None:
    """Run the console script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
