"""How many processors this process may use: what the cgroup and the affinity mask allow, not what the machine has.

gunicorn and most others count the machine's, so that a container with half a processor starts 64 workers.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_MOUNT = "sys/fs/cgroup"


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


def _cgroups(root: Path) -> list[tuple[Path, int]]:
    """Every directory that may hold a quota, nearest first, with the cgroup version."""
    found: list[tuple[Path, int]] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            found += [(directory, 2) for directory in _upwards(root / CGROUP_MOUNT, path)]
        elif "cpu" in controllers.split(","):
            # Some systems mount the controller under its own name, some under the joint one.
            for mount in dict.fromkeys((controllers, "cpu")):
                found += [(directory, 1) for directory in _upwards(root / CGROUP_MOUNT / mount, path)]
    return found


def _upwards(mount: Path, path: str) -> list[Path]:
    # Inside a container the path may belong to the host's tree and not exist here; the mount itself then is ours.
    parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
    return [mount.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _quota(directory: Path, version: int) -> float | None:
    """Read one directory's quota in processors."""
    if version == 2:
        words = _read(directory / "cpu.max").split()
    else:
        words = [*_read(directory / "cpu.cfs_quota_us").split(), *_read(directory / "cpu.cfs_period_us").split()]
    if len(words) != 2 or not all(word.isdigit() for word in words):  # "max", "-1" or nothing: no limit here
        return None
    quota, period = map(int, words)
    return quota / period if quota and period else None


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
