"""`python launch.py USER PARENT_PID SIGNAL COMMAND…`: become USER, get SIGNAL when the parent dies, become COMMAND.

An extra interpreter instead of `preexec_fn`, which is not safe in a process that has threads. The PID stays the same.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def become(user: str) -> None:
    """Drop root's rights for good: neither server agrees to run as root."""
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def die_with(parent: int, signum: int) -> None:
    """Ask the kernel for a signal at the parent's death: a test run that is killed leaves no server behind."""
    if sys.platform != "linux":
        return
    # After setuid, which clears the wish (prctl(2)); and the parent may be gone before it was made.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        sys.exit("the parent is gone already")


def main(user: str, parent: str, signum: str, *command: str) -> None:
    """Never returns: the process becomes `command`."""
    if user and os.geteuid() == 0:
        become(user)
    die_with(int(parent), int(signum))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
