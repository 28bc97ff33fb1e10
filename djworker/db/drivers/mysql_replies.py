"""Is the server's whole answer already in our receive buffer? Then reading it cannot block.

MySQL's C library reads in blocking mode: it would stop the hub while the server still produces rows. The server sends
when its own buffer (`net_buffer_length`, 16 KiB) is full or the statement has ended, so most answers arrive in one
piece, and a look at its two ends tells. A wrong guess costs a pause, never a wrong result.
"""

from __future__ import annotations

HEADER = 4  # bytes: length (3), sequence number (1)
OK, ERROR, EOF, LOCAL_INFILE = 0x00, 0xFF, 0xFE, 0xFB
MAX_ONE_BYTE = 0xFA  # a length-encoded integer above has more bytes than one
EOF_PACKET = 9  # bytes with header: EOF, warnings (2), status (2)
END_PACKET = 11  # bytes with header of the OK packet that ends rows where EOF is deprecated, without session news

TLS_HEADER = 5  # bytes: type, version (2), length (2)
TLS_APPLICATION_DATA = b"\x17\x03"
TLS_FULL_RECORD = 1 << 14  # RFC 8446, section 5.1: plaintext of a record


def is_whole(view: memoryview) -> bool:
    """Whether `view`, what can be read without waiting, holds a command's complete answer."""
    if bytes(view[:2]) == TLS_APPLICATION_DATA:
        return _is_whole_tls(view)
    if len(view) <= HEADER:
        return False
    first = view[HEADER]
    if first in (OK, ERROR):
        return len(view) >= HEADER + int.from_bytes(view[:3], "little")
    return 0 < first <= MAX_ONE_BYTE and _ends_rows(view, first)


def _ends_rows(view: memoryview, columns: int) -> bool:
    size = len(view)
    tail = bytes(view[-EOF_PACKET:])
    if size >= EOF_PACKET and tail[:3] == b"\x05\0\0" and tail[HEADER] == EOF:
        # The packet after the column definitions looks the same, but for its number: 1 is the count, then the columns.
        return tail[3] != (columns + 2) & 0xFF
    tail = bytes(view[-END_PACKET:])
    return size >= END_PACKET and tail[:3] == b"\x07\0\0" and tail[HEADER] == EOF


def _is_whole_tls(view: memoryview) -> bool:
    """Every record complete, and the last one not full: what the server sends before the end fills its buffer."""
    at, length = 0, 0
    while at + TLS_HEADER <= len(view):
        length = int.from_bytes(view[at + 3 : at + TLS_HEADER], "big")
        at += TLS_HEADER + length
    return at == len(view) and length < TLS_FULL_RECORD
