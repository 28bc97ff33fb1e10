"""A body as fast as it is read, to a view that reads it byte by byte: each block that is received has 65 536 of them."""

from tests.attacks.lines import POST, flood, main


def attack(port: int) -> None:
    """Send without end; little is left to be read when the attack is over."""
    flood(port, POST % b"/single" + b"Content-Length: %d\r\n\r\n" % (1 << 40), b"x" * (1 << 16), send_buffer=1 << 16)


if __name__ == "__main__":
    main(attack)
