"""Requests one after the other without waiting for answers."""

from tests.attacks.lines import GET, flood, main


def attack(port: int) -> None:
    """Ask without end."""
    flood(port, b"", GET % b"/work" * 1000)


if __name__ == "__main__":
    main(attack)
