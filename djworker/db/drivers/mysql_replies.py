"""Is the server's whole answer already in our receive buffer? Then reading it cannot block.

MySQL's C library reads in blocking mode: it would stop the hub while the server still produces rows. The server sends
when its own buffer (`net_buffer_length`, 16 KiB) is full or the statement has ended, so most answers arrive in one
piece, and a look at its two ends tells. A wrong guess costs a pause, never a wrong result.
"""

from __future__ import annotations

from typing import Final

HEADER: Final = 4  # bytes: length (3), sequence number (1)
OK, ERROR, EOF = 0x00, 0xFF, 0xFE
MAX_ONE_BYTE: Final = 0xFA  # a length-encoded integer above has more bytes than one
EOF_PACKET: Final = 9  # bytes with header: EOF, warnings (2), status (2)
END_PACKET: Final = (
    11  # bytes with header of the OK packet that ends rows where EOF is deprecated, without session news
)

TLS_HEADER: Final = 5  # bytes: type, version (2), length (2)
TLS_APPLICATION_DATA, TLS_MAJOR = 0x17, 0x03
TLS_FULL_RECORD: Final = 1 << 14  # RFC 8446, section 5.1: plaintext of a record


def is_whole(data: bytes | bytearray, size: int) -> bool:
    """Whether the first `size` bytes of `data`, what can be read without waiting, are a command's complete answer."""
    if size <= END_PACKET:
        return _is_whole_and_short(data, size)
    if data[0] == TLS_APPLICATION_DATA and data[1] == TLS_MAJOR:
        return _is_whole_tls(data, size)
    first = data[HEADER]
    if not OK < first <= MAX_ONE_BYTE:
        return _is_whole_and_short(data, size)
    # Rows. Looked at byte by byte: slices would cost as much as all the rest.
    end = size - EOF_PACKET
    if data[end + HEADER] == EOF and data[end] == EOF_PACKET - HEADER and not (data[end + 1] or data[end + 2]):
        # The packet after the column definitions is the same, but for its number: 1 is the count, then the columns.
        return data[end + 3] != (first + 2) & 0xFF
    end = size - END_PACKET
    return data[end + HEADER] == EOF and data[end] == END_PACKET - HEADER and not (data[end + 1] or data[end + 2])


def _is_whole_and_short(data: bytes | bytearray, size: int) -> bool:
    """An OK or an error packet."""
    if size <= HEADER or data[HEADER] not in (OK, ERROR):
        return False
    return size >= HEADER + int.from_bytes(data[:3], "little")


def _is_whole_tls(data: bytes | bytearray, size: int) -> bool:
    """Every record complete, and the last one not full: what the server sends before the end fills its buffer."""
    at, length = 0, 0
    while at + TLS_HEADER <= size:
        length = int.from_bytes(data[at + 3 : at + TLS_HEADER], "big")
        at += TLS_HEADER + length
    return at == size and length < TLS_FULL_RECORD
