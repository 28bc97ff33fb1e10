"""Listening sockets: opened once by the arbiter, inherited by every mold and worker, outliving all of them."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from djworker import accounts
from djworker.conf.address import Address, Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from djworker.accounts import Account

#: Every user who may enter the folder may connect, as with gunicorn: a proxy seldom has our user or group.
SOCKET_MODE: Final = 0o666
#: Every interface. As with gunicorn, IPv4 comes along (RFC 4291 2.5.5.2: mapped addresses).
ANY_IPV6: Final = "::"

_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
_INSTRUCTION: Final = "HBBI"  # struct sock_filter: code, jump if true, jump if false, operand


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack(_INSTRUCTION, code, if_true, if_false, operand)


#: Classic BPF on the TCP header (byte 13: the flags): drop what asks for a connection, and that alone. The client asks again
#: after a second, and is refused, or served by the process that listens then.
_DROP_SYN: Final = b"".join(
    (
        _instruction(0x30, 13),  # load byte 13
        _instruction(0x54, 0x12),  # and SYN|ACK
        _instruction(0x15, 0x02, 0, 1),  # SYN alone?
        _instruction(0x06, 0),  # drop
        _instruction(0x06, 0xFFFFFFFF),  # keep
    )
)


class ListenError(Exception):
    """An address cannot be listened on; the text names it, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Listener:
    """[arbiter] One listening socket, and the file to remove when it is a unix socket of our own making.

    account: the service's, where that is not our own: a unix socket is made, and removed, with its rights.
    """

    sock: socket.socket
    address: Address
    unlink: tuple[str, int] | None = None
    account: Account | None = None

    def __str__(self) -> str:
        return describe(self.sock)

    def turn_away(self) -> None:
        """Let no new connection in, while those that the kernel has queued can still be accepted.

        Closing is not enough: it takes effect when the last process has closed its copy, and resets what came between that
        process's last accept(2) and its close. A socket from outside (systemd's) is its owner's, who may keep it open.
        """
        if self.address.family is Family.UNIX:
            self.sock.shutdown(socket.SHUT_RD)  # unix(7): connect(2) is refused, accept(2) still empties the queue
        elif self.address.family is not Family.FD and sys.platform == "linux":
            program = ctypes.create_string_buffer(_DROP_SYN)
            count = len(_DROP_SYN) // struct.calcsize(_INSTRUCTION)
            self.sock.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", count, ctypes.addressof(program))
            )

    def close(self) -> None:
        """Close it; a unix socket's file goes with it, unless another stands in its place."""
        self.sock.close()
        if self.unlink is None:
            return
        path, inode = self.unlink
        try:
            with accounts.acting_in(os.path.dirname(path), self.account):
                if os.lstat(path).st_ino == inode:
                    os.unlink(path)
        except OSError:
            return


def describe(sock: socket.socket) -> str:
    """The address as a client would write it, with the port that the kernel chose for port 0."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        # An abstract socket's name begins with a zero, and is bytes.
        return f"unix:{os.fsdecode(name).replace(chr(0), '@', 1)}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"


def open_listeners(
    addresses: Iterable[Address], backlog: int, mode: int = SOCKET_MODE, account: Account | None = None
) -> list[Listener]:
    """Open every address, or none.

    Args:
        addresses: where to listen.
        backlog: connections that the kernel queues, ``listen(2)``; capped by ``net.core.somaxconn``.
        mode: permissions of unix sockets, whatever the umask.
        account: who is to own unix sockets, where that is not this process.

    Raises:
        ListenError: with one line for each address that failed.
    """
    listeners, problems = _open_what_opens(addresses, backlog, mode, account)
    if problems:
        close_all(listeners)
        raise ListenError("\n".join(problems))
    return listeners


def preflight(addresses: Iterable[Address], backlog: int = 1, account: Account | None = None) -> list[str]:
    """Why these addresses could not be listened on, one line each; nothing stays open."""
    ours = [address for address in addresses if address.family is not Family.FD]
    listeners, problems = _open_what_opens(ours, backlog, 0, account)
    close_all(listeners)
    return problems


def let_go(listeners: Sequence[Listener]) -> None:
    """Close them for good, so that no new client gets in and no client in the queue gets lost."""
    for listener in listeners:
        try:
            listener.turn_away()
        except OSError:
            continue  # a kernel without socket filters: what comes in the last moment is reset
    close_all(listeners)


def close_all(listeners: Sequence[Listener]) -> None:
    """Close them all."""
    for listener in listeners:
        listener.close()


def _open_what_opens(
    addresses: Iterable[Address], backlog: int, mode: int, account: Account | None
) -> tuple[list[Listener], list[str]]:
    listeners: list[Listener] = []
    problems: list[str] = []
    addresses = tuple(addresses)
    taken = _ports_of_ipv4(addresses)
    for address in addresses:
        try:
            listeners.append(_open(address, backlog, mode, account, taken))
        except (OSError, ValueError) as error:
            problems.append(_explain(address, error))
    return listeners, problems


def _ports_of_ipv4(addresses: Iterable[Address]) -> frozenset[int]:
    """Return the ports that are to be listened on for IPv4 by an address of their own."""
    return frozenset(
        _port_of_passed(address.fd) if address.family is Family.FD else address.port
        for address in addresses
        if address.family in {Family.TCP, Family.FD}
    )


def _port_of_passed(fd: int) -> int:
    """Return the port of a socket from outside where it is one of IPv4, else 0."""
    try:
        with socket.socket(fileno=os.dup(fd)) as passed:
            return int(passed.getsockname()[1]) if passed.family == socket.AF_INET else 0
    except OSError:
        return 0  # not open: another rule tells of it


def _open(
    address: Address, backlog: int, mode: int, account: Account | None, taken: AbstractSet[int] = frozenset()
) -> Listener:
    """Open an address. taken: ports that IPv4 has an address of its own for."""
    match address.family:
        case Family.UNIX if address.is_abstract:
            return Listener(_open_abstract(address, backlog), address)
        case Family.UNIX:
            return _open_unix(address, backlog, mode, account)
        case Family.FD:
            return Listener(adopt(address.fd), address)
        case Family.TCP6:
            both = address.host == ANY_IPV6 and (not address.port or address.port not in taken)
            return Listener(_open_tcp(socket.AF_INET6, address, backlog, both=both), address)
        case Family.TCP:
            return Listener(_open_tcp(socket.AF_INET, address, backlog), address)


def _open_tcp(family: socket.AddressFamily, address: Address, backlog: int, *, both: bool = False) -> socket.socket:
    """Listen on TCP. both: for IPv6, serve IPv4 as well."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it a restart fails for as long as old connections linger in TIME_WAIT. A port that another process listens
        # on is still refused on Linux.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Said either way: net.ipv6.bindv6only decides otherwise. 0.0.0.0 and [::] can be bound side by side.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        sock.bind((address.host, address.port))
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_abstract(address: Address, backlog: int) -> socket.socket:
    """Listen under a name in the kernel, which goes with its last socket: no file, no permissions, nothing stale."""
    if sys.platform != "linux":
        raise OSError(errno.EAFNOSUPPORT, "only Linux has abstract sockets; give the path of a file")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(b"\0" + os.fsencode(address.path[1:]))
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(address: Address, backlog: int, mode: int, account: Account | None) -> Listener:
    with accounts.acting_in(os.path.dirname(address.path), account) as own:
        _remove_stale(address.path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o777 & ~mode)  # bind(2) gives it all permissions but these, with no moment between
        try:
            sock.bind(address.path)
            if account is not None and not own:
                os.chown(address.path, account.uid, account.gid, follow_symlinks=False)
            sock.listen(backlog)
            sock.setblocking(False)
            inode = os.lstat(address.path).st_ino
        except BaseException:
            sock.close()
            raise
        finally:
            os.umask(previous)
    return Listener(sock, address, (address.path, inode), account)


def _remove_stale(path: str) -> None:
    """Remove the file that a killed server left; a living server's is left alone, and so is whatever is no socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise OSError(errno.EEXIST, "that is a folder; name a file in it", path)
    if not stat.S_ISSOCK(mode):
        raise OSError(
            errno.EEXIST, "a file that is not a socket is in the way; remove it, or choose another path", path
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            os.unlink(path)
            return
        except PermissionError:
            raise OSError(errno.EEXIST, "a socket of another user is in the way; remove it", path) from None
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def adopt(fd: int) -> socket.socket:
    """A socket that was opened before: systemd's LISTEN_FDS, ``fd://3``, or ourselves before an exec.

    Raises:
        OSError: the descriptor is no listening socket.
    """
    sock = socket.socket(fileno=fd)
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise OSError(errno.EINVAL, "the descriptor is not a listening socket")
    sock.setblocking(False)
    os.set_inheritable(fd, False)
    return sock


_REMEDIES: Final = {
    errno.EADDRINUSE: "another process listens there; stop it or choose another address",
    errno.EACCES: "not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address; 0.0.0.0:PORT stands for all that it has",
    errno.EBADF: "no such descriptor is open; leave it out, or pass it",
    errno.ENOTSOCK: "the descriptor is not a socket; pass one that listens",
    errno.ENOTDIR: "a part of the path is a file, and no folder; choose another path",
    errno.ENOENT: "the directory does not exist; create it, or have the unit do so (RuntimeDirectory=)",
}


def _explain(address: Address, error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if address.family is Family.TCP6 and number == errno.EAFNOSUPPORT:
        reason = f"this machine has no IPv6; give 0.0.0.0:{address.port} for every interface"
    elif address.family is Family.UNIX and number == errno.EACCES:
        reason = f"not permitted; make the folder {os.path.dirname(address.path)} the service user's"
    elif isinstance(error, socket.gaierror):
        reason = f"the name has no address here ({error.strerror}); correct it, or give an IP address"
    else:
        reason = _REMEDIES.get(number or 0) or (isinstance(error, OSError) and error.strerror) or str(error)
    return f"cannot listen on {address}: {reason}"
