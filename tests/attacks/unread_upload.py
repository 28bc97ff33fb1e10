"""A chunked body without end to a page that does not read it: memory, disk, and the loop that listens on after the answer."""

from tests.attacks.lines import CHUNKED, POST, flood, main


def attack(port: int) -> None:
    """Send without end."""
    flood(port, POST % b"/ignore" + CHUNKED, b"10000\r\n" + b"x" * 65_536 + b"\r\n")


if __name__ == "__main__":
    main(attack)
