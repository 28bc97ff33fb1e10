"""[mold] Django's system checks and ours at boot: errors end it, everything else is said in the log, one line each."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any, Final

from djworker import log
from djworker.mold import cleanup, forked_call, preflight

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from djworker.conf.table import Config
    from djworker.mold.forked_call import Asked

logger = logging.getLogger("djworker.mold")

#: Seconds for all database servers together. A boot without an answer goes on: the server may come later.
TIMEOUT: Final = 3.0
#: Seconds to read all migrations and to ask which of them the database has. Nothing waits for it but `--check`.
MIGRATIONS_WITHIN: Final = 10.0
#: As `nice`: the first requests come first.
_NICENESS: Final = 10


def run(config: Config) -> list[str]:
    """Run them as `manage.py check` does, but knowing how many workers there will be; a line for each error."""
    from django.core import checks

    from djworker.db.checks import demand

    demand.expect(config.workers)
    found = [*(message for message in checks.run_checks() if not message.is_silenced()), *preflight.run(config)]
    for message in found:
        if message.level < checks.ERROR:
            _tell(message.id, in_one_line(message))
    return [in_one_line(message) for message in found if message.level >= checks.ERROR]


def ask_servers() -> None:
    """Ask the database servers whether they can take what the workers may want; nothing of it is left in the mold."""
    from django.core.checks import Warning  # noqa: A004 - Django's own name
    from django.db import connections

    from djworker.db.checks import capacity

    aliases = capacity.askable(connections)
    if not aliases:
        return
    if answer := forked_call.ask(lambda: _as_json(capacity.check(aliases)), TIMEOUT):
        tell(answer)
    else:
        names = ", ".join(map(repr, aliases))
        text = f"database {names}: no answer within {TIMEOUT:g} s to how many connections it takes"
        tell(_as_json([Warning(text, hint="start the server, or correct DATABASES", id="djworker.W111")]))


def ask_for_migrations() -> str:
    """[a child of the mold] What `tell` is to say of them."""
    os.nice(_NICENESS)
    logging.getLogger("djworker.db").setLevel(
        logging.CRITICAL + 1
    )  # an outage is told of by the worker that it concerns
    try:
        return _as_json(preflight.unapplied())
    finally:
        cleanup.hang_up()


def lacking_migrations() -> list[str]:
    """Return what is said of migrations that the database lacks; nothing where it does not answer."""
    answer = forked_call.ask(ask_for_migrations, MIGRATIONS_WITHIN)
    return [line for _number, line in json.loads(answer or "[]")]


def take_in(asked: Asked) -> None:
    """Say what a child has answered, if it has."""
    if asked.finish() == 0:
        tell(asked.said.decode())


def tell(answer: str) -> None:
    """Say what a child has found out; nothing where it did not come to an answer."""
    for number, line in json.loads(answer or "[]"):
        _tell(number, line)


def count_deployment_findings() -> None:
    """One line with what ``check --deploy`` would find; a check that raises is a finding, too."""
    from django.core.checks.registry import registry

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


def _as_json(found: Any) -> str:
    return json.dumps([(item.id, in_one_line(item)) for item in found if not item.is_silenced()])


def in_one_line(message: CheckMessage) -> str:
    """As the options' problems are written: id, text, hint; and between the first two what Django's checks speak of."""
    about = message.obj
    label = getattr(getattr(about, "_meta", None), "label", None) or (str(about) if about is not None else "")
    parts = (message.id, label, message.msg, message.hint)
    return ": ".join(" ".join(str(part).split()) for part in parts if part)


def _tell(number: str | None, line: str) -> None:
    log.event(logger, logging.WARNING, "check", line, id=number or "")
