"""Reading /proc: lines as the kernel writes them, and this very process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.benchmarks import proc
from tests.benchmarks.proc import Stat, cpu_seconds, descendants, parse_pss, parse_stat

LINE = "4711 (a) b (c) S 17 4711 4711 0 -1 4194560 1181 99 0 0 500 70 8 9 20 0 1 0 123456 10240000 1300 18446744073709551615"


def test_a_command_with_blanks_and_brackets_does_not_shift_the_fields() -> None:
    assert parse_stat(LINE) == Stat(pid=4711, parent=17, own_ticks=570, reaped_ticks=17, started=123456)


def test_cpu_time_includes_the_children_that_were_buried() -> None:
    assert cpu_seconds([parse_stat(LINE)] * 2) == pytest.approx(2 * 587 / proc.TICKS_PER_SECOND)


def test_a_tree_is_the_root_and_everything_below() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 13: 12, 20: 1, 21: 20}
    stats = [Stat(pid, parent, 0, 0, 0) for pid, parent in reversed(parents.items())]
    assert [stat.pid for stat in descendants(10, stats)] == [10, 11, 12, 13]
    assert descendants(99, stats) == []


def test_pss_is_in_bytes() -> None:
    assert parse_pss("Rss:     1584 kB\nPss:      335 kB\nPss_Dirty: 112 kB\n") == 335 * 1024


def test_a_zombie_has_no_pss() -> None:
    with pytest.raises(ValueError, match="no Pss"):
        parse_pss("")


def test_our_own_child_is_found_with_its_memory_and_is_gone_afterwards() -> None:
    with subprocess.Popen([sys.executable, "-c", "print('up', flush=True); input()"], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        seen = {process.pid: process for process in proc.snapshot(os.getpid())}
        assert seen[child.pid].parent == os.getpid()
        assert "input()" in seen[child.pid].command
        assert seen[child.pid].pss > 0
        child.communicate(b"\n")
    assert proc.stat(child.pid) is None
    assert proc.command(child.pid) == ""
    assert proc.pss(child.pid) == 0
