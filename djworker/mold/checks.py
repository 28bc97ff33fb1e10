"""[mold] Django's system checks and ours at boot: errors end it, everything else is said in the log, one line each."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from djworker import log
from djworker.mold import forked_call

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

logger = logging.getLogger("djworker.mold")

#: Seconds for all database servers together. A boot without an answer goes on: the server may come later.
PATIENCE = 3.0


def run(workers: int) -> list[str]:
    """Run them as `manage.py check` does, but knowing how many workers there will be; a line for each error."""
    from django.core import checks  # noqa: PLC0415 - Django comes after the import path

    from djworker.db.checks import demand  # noqa: PLC0415

    demand.expect(workers)
    found = [message for message in checks.run_checks() if not message.is_silenced()]
    for message in found:
        if message.level < checks.ERROR:
            _tell(message.id, in_one_line(message))
    return [in_one_line(message) for message in found if message.level >= checks.ERROR]


def ask_servers() -> None:
    """Ask the database servers whether they can take what the workers may want; nothing of it is left in the mold."""
    from django.db import connections  # noqa: PLC0415

    from djworker.db.checks import capacity  # noqa: PLC0415

    aliases = capacity.askable(connections)
    if not aliases:
        return
    if answer := forked_call.ask(lambda: _as_json(capacity.check(aliases)), PATIENCE):
        for number, line in json.loads(answer):
            _tell(number, line)
    else:
        names = ", ".join(map(repr, aliases))
        line = f"djworker.W111: database {names}: no answer within {PATIENCE:g} s to how many connections it takes"
        _tell("djworker.W111", line)


def count_deployment_findings() -> None:
    """One line with what ``check --deploy`` would find; a check that raises is a finding, too."""
    from django.core.checks.registry import registry  # noqa: PLC0415

    found: list[str] = []
    for check in registry.deployment_checks:
        try:
            found += [
                message.id or "?" for message in check(app_configs=None, databases=None) if not message.is_silenced()
            ]
        except Exception as error:  # noqa: BLE001 - it has nothing to do with serving
            found.append(f"{getattr(check, '__name__', check)} raises {type(error).__name__}")
    if found:
        text = f"manage.py check --deploy has {len(found)} findings: {', '.join(sorted(found))}"
        log.event(logger, logging.INFO, "deployment_checks", text, count=len(found), ids=sorted(found))


def _as_json(found: Any) -> str:  # noqa: ANN401 - an iterable of check messages
    return json.dumps([(item.id, in_one_line(item)) for item in found if not item.is_silenced()])


def in_one_line(message: CheckMessage) -> str:
    """As the options' problems are written: id, text, hint; and between the first two what Django's checks speak of."""
    about = message.obj
    label = getattr(getattr(about, "_meta", None), "label", None) or (str(about) if about is not None else "")
    parts = (message.id, label, message.msg, message.hint)
    return ": ".join(" ".join(str(part).split()) for part in parts if part)


def _tell(number: str | None, line: str) -> None:
    log.event(logger, logging.WARNING, "check", line, id=number or "")
