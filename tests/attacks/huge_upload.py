"""A body of a huge length, as fast as it is read: an honest upload at the speed of a local proxy looks the same."""

from tests.attacks.lines import POST, flood, main


def attack(port: int) -> None:
    """Send without end."""
    flood(port, POST % b"/digest" + b"Content-Length: %d\r\n\r\n" % (1 << 40), b"x" * (1 << 20))


if __name__ == "__main__":
    main(attack)
