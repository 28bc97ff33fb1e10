"""How many processors this process may use: what the cgroup and the affinity mask allow, not what the machine has.

gunicorn and most others count the machine's, so that a container with half a processor starts 64 workers.
"""

from __future__ import annotations

import math
import os
from enum import Enum
from pathlib import Path
from typing import Final


class Version(Enum):
    """The two generations of control groups, with different files."""

    ONE = 1
    TWO = 2


CGROUP_MOUNT: Final = "sys/fs/cgroup"


def cpu_count(root: Path = Path("/")) -> int:
    """Count the usable processors, at least 1.

    A quota of 1.5 processors counts as 2: rounding down would leave half a processor unused (Go 1.25 rounds likewise).
    root: where /proc and /sys are found, for tests.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(root)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def cgroup_quota(root: Path) -> float | None:
    """Return the smallest processor quota on the way from this process's cgroup to the top, None without one."""
    quotas = [quota for directory, version in _cgroups(root) if (quota := _quota(directory, version)) is not None]
    return min(quotas, default=None)


def _cgroups(root: Path) -> list[tuple[Path, Version]]:
    """Every directory that may hold a quota, nearest first, with the cgroup version."""
    found: list[tuple[Path, Version]] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            found += [(directory, Version.TWO) for directory in _upwards(root / CGROUP_MOUNT, path)]
        elif "cpu" in controllers.split(","):
            # Some systems mount the controller under its own name, some under the joint one.
            for mount in dict.fromkeys((controllers, "cpu")):
                found += [(directory, Version.ONE) for directory in _upwards(root / CGROUP_MOUNT / mount, path)]
    return found


def _upwards(mount: Path, path: str) -> list[Path]:
    # Inside a container the path may belong to the host's tree and not exist here; the mount itself then is ours.
    parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
    return [mount.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _quota(directory: Path, version: Version) -> float | None:
    """Read one directory's quota in processors."""
    files = ("cpu.max",) if version is Version.TWO else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    match [word for name in files for word in _read(directory / name).split()]:
        case [quota, period] if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            return int(quota) / int(period)
    return None  # "max", "-1" or nothing: no limit here


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
