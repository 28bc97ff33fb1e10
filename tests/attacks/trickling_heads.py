"""Heads that come in pieces and never to their end, more than there are permits."""

from tests.attacks.lines import HOST, crowd, main


def attack(port: int, count: int = 1000) -> None:
    """Send a field now and then."""
    crowd(port, count, b"GET /hello HTTP/1.1\r\n" + HOST, [b"X-Field: value\r\n"])


if __name__ == "__main__":
    main(attack)
