"""An answer in small pieces without end, and a client that reads all of them."""

from tests.attacks.lines import GET, main, swallow


def attack(port: int) -> None:
    """Read without end."""
    swallow(port, GET % b"/stream?n=1000000000")


if __name__ == "__main__":
    main(attack)
