"""A large file that the kernel sends, and a client that reads as fast as it can."""

from tests.attacks.lines import GET, main, swallow


def attack(port: int) -> None:
    """Read it again and again."""
    swallow(port, GET % b"/hole")


if __name__ == "__main__":
    main(attack)
