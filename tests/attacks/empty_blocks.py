"""An answer whose application has nothing to send yet, and says so by empty blocks, as PEP 3333 lets it."""

from tests.attacks.lines import GET, main, swallow


def attack(port: int) -> None:
    """Ask again and again."""
    swallow(port, GET % b"/unready?s=2")


if __name__ == "__main__":
    main(attack)
