"""Two things that mysqlclient does not hand through: the server's status word, and COM_RESET_CONNECTION.

mysqlclient gives out its `MYSQL*` in a capsule; the functions are found through its extension module. Where the client
library lacks one (`mariadb_get_infov` in Oracle's) the answer is None.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, Final

from MySQLdb import _mysql

_CAPSULE: Final = b"_mysql.connection.native_connection"
_SERVER_STATUS: Final = 30  # enum mariadb_value: MARIADB_CONNECTION_SERVER_STATUS, Connector/C 3.1.13 and later


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(_mysql.__file__)


@functools.cache
def _get_infov() -> Any:
    function = getattr(_library(), "mariadb_get_infov", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
        function.restype = ctypes.c_char
    return function


@functools.cache
def _reset_connection() -> Any:
    function = getattr(_library(), "mysql_reset_connection", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p]
        function.restype = ctypes.c_int
    return function


class Handle:
    """[worker] The C structure of one mysqlclient connection, which must outlive it."""

    __slots__ = ("_pointer", "_word", "_word_at")

    def __init__(self, conn: _mysql.connection) -> None:
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        self._pointer = get(conn._get_native_connection(), _CAPSULE)  # noqa: SLF001 - its only way out
        self._word = ctypes.c_uint()
        self._word_at = ctypes.addressof(self._word)

    def server_status(self) -> int | None:
        """The status word of the last reply."""
        function = _get_infov()
        if function is None or function(self._pointer, _SERVER_STATUS, self._word_at) != b"\0":
            return None
        return self._word.value

    def reset(self) -> bool:
        """COM_RESET_CONNECTION. Blocks: for a native thread. False if there is no such function or it failed."""
        function = _reset_connection()
        return function is not None and function(self._pointer) == 0
