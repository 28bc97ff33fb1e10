"""Clients that ask for a large answer and do not read it, more than there are permits."""

from tests.attacks.lines import GET, crowd, main


def attack(port: int, count: int = 1000) -> None:
    """Ask, and never read."""
    crowd(port, count, GET % b"/big?mib=8")


if __name__ == "__main__":
    main(attack)
