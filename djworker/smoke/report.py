"""What was found, as a summary that fits a screen, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from djworker.control.text import printable

__all__ = ["CHECKS", "Report"]

#: In the order in which they are made.
CHECKS: Final = ("boot", "requests", "pool", "leaks", "reload", "stop")
#: Lines of the summary, at most.
_LINES: Final = 20
_WIDTH: Final = 400


@dataclass(slots=True)
class Report:
    """[smoke] problems: by check, each told once. done: what each check that was made has seen."""

    paths: list[str]
    done: dict[str, str] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    workers: int = 0
    seconds: float = 0.0

    def fail(self, check: str, reason: str) -> None:
        """Note what is wrong."""
        told = self.problems.setdefault(check, [])
        if reason not in told:
            told.append(reason)

    @property
    def ok(self) -> bool:
        """Whether all checks were made, and found nothing."""
        return not self.problems and len(self.done) == len(CHECKS)

    def as_json(self) -> str:
        """Return an object, as `control.schemas.SMOKE` describes it."""
        checks: list[dict[str, Any]] = [
            {"check": check, "outcome": self._outcome(check), "seen": self.done.get(check, ""), "problems": found}
            for check in CHECKS
            for found in [self.problems.get(check, [])]
        ]
        statuses = {str(status): count for status, count in sorted(self.statuses.items())}
        numbers = {"workers": self.workers, "statuses": statuses, "seconds": round(self.seconds, 3)}
        return json.dumps(
            {"version": 1, "ok": self.ok, "paths": list(self.paths), **numbers, "checks": checks}, indent=2
        )

    def as_text(self) -> str:
        """Return a line for each check, and one for each problem."""
        lines = []
        for check in CHECKS:
            first, *more = self.problems.get(check) or [self.done.get(check, "")]
            lines.append(f"{self._outcome(check):<8} {check:<9} {first}")
            lines += [f"{'':<18} {text}" for text in more]
        if len(lines) >= _LINES:
            lines = [*lines[: _LINES - 2], f"... and {len(lines) - _LINES + 2} lines more: --json shows them"]
        requests = f"{sum(self.statuses.values())} requests to {self.workers} workers in {self.seconds:.1f} s"
        verdict = f"{'passed' if self.ok else 'FAILED'}: {requests}"
        return "\n".join(printable(line)[:_WIDTH].rstrip() for line in (*lines, verdict))

    def _outcome(self, check: str) -> str:
        if check in self.problems:
            return "FAILED"
        return "ok" if check in self.done else "not made"
