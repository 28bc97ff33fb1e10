"""The number of processors comes from the cgroup, whichever of its many shapes the system has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from djworker.conf.cpus import cgroup_quota, cpu_count

V2_SERVICE = "0::/system.slice/app.service\n"
V1 = "12:cpu,cpuacct:/docker/abc\n11:memory:/docker/abc\n0::/\n"


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    "files, quota",
    [
        pytest.param({}, None, id="no cgroups at all"),
        pytest.param({"proc/self/cgroup": "0::/\n"}, None, id="no quota file"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None, id="no limit"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5, id="container"),
        pytest.param(
            {
                "proc/self/cgroup": V2_SERVICE,
                "sys/fs/cgroup/system.slice/app.service/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/system.slice/cpu.max": "200000 100000\n",
            },
            2.0,
            id="a parent is narrower",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/kubepods/pod1\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"},
            0.5,
            id="the path is the host's, the mount is ours",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            3.0,
            id="version 1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
            id="version 1 without limit",
        ),
        pytest.param({"proc/self/cgroup": "nonsense\n::\n", "sys/fs/cgroup/cpu.max": "a b\n"}, None, id="nonsense"),
    ],
)
def test_the_smallest_quota_counts(tmp_path: Path, files: Mapping[str, str], quota: float | None) -> None:
    assert cgroup_quota(tree(tmp_path, files)) == quota


def test_a_part_of_a_processor_counts_as_one(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "10000 100000\n"})
    assert cpu_count(root) == 1


def test_the_affinity_is_respected(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"})
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert cpu_count(root) == usable


def test_this_machine_has_processors() -> None:
    assert cpu_count() >= 1
