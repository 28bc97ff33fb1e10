"""The threat model names a test for each attack; what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "security.md"


def test_each_attack_has_a_test_that_exists() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and "---" not in line]
    attacks = [row for row in rows if not row.startswith("| attack |")]
    assert len(attacks) > 25
    for row in attacks:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert tests, row
        assert all(f"def {name}(" in (ROOT / module).read_text() for module, name in tests), row
