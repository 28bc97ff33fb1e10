"""A chunked body in chunks of one byte, as fast as it is read: each costs a parser more than a syscall costs us."""

from tests.attacks.lines import CHUNKED, POST, flood, main


def attack(port: int) -> None:
    """Send without end."""
    flood(port, POST % b"/digest" + CHUNKED, b"1\r\nx\r\n" * 10_000)


if __name__ == "__main__":
    main(attack)
