"""Connections on which nothing is said, more than there are permits."""

from tests.attacks.lines import crowd, main


def attack(port: int, count: int = 1000) -> None:
    """Connect, and say nothing."""
    crowd(port, count, b"")


if __name__ == "__main__":
    main(attack)
