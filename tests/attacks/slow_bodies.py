"""Bodies that come a little faster than the minimum rate, more than there are permits: read ahead or not."""

from tests.attacks.lines import POST, crowd, main


def attack(port: int, count: int = 1000, length: int = 1_000_000) -> None:
    """Send 600 bytes a second on each connection."""
    crowd(port, count, POST % b"/echo" + b"Content-Length: %d\r\n\r\n" % length, [b"x" * 300])


if __name__ == "__main__":
    main(attack)
