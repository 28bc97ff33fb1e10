"""System checks say of the settings what the start would say, under the same ids."""

from __future__ import annotations

import os
import subprocess
import sys

PROJECT = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["djworker"], DJWORKER={settings})
django.setup()
from django.core.checks import run_checks
for message in run_checks(tags=["djworker"]):
    print(message.id, message.level, message.msg, message.hint, sep="|")
"""


def check(settings: str) -> list[str]:
    """Run the checks where nobody else's settings are."""
    environ = {**os.environ, "DJWORKER_WORKERS": "many"}
    program = PROJECT.replace("{settings}", settings)
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_good_settings_are_silent_whatever_the_environment_says() -> None:
    assert check('{"WORKERS": 3, "USER": "no-such-user-on-this-build-machine"}') == []


def test_every_problem_is_found_with_id_and_hint() -> None:
    assert check('{"WORKER": 3, "TIMEOUT": "soon", "BACKLOG": 0, "MAX_REQUESTS_JITTER": 4}') == [
        "djworker.E001|40|settings.DJWORKER has an unknown key 'WORKER'|did you mean WORKERS?",
        "djworker.E003|40|backlog = '0' (from settings.DJWORKER['BACKLOG']): out of bounds|give 1 to 65535",
        (
            "djworker.E002|40|timeout = 'soon' (from settings.DJWORKER['TIMEOUT']): not a time"
            "|give seconds (90, 1.5) or 500ms, 90s, 5m, 1h"
        ),
        (
            "djworker.W001|30|max_requests_jitter = '4' (from settings.DJWORKER['MAX_REQUESTS_JITTER']): has no effect "
            "without max_requests|set max_requests as well"
        ),
    ]


def test_settings_that_are_no_dict() -> None:
    assert check("[1]") == ["djworker.E010|40|settings.DJWORKER is no dict|write DJWORKER = {'WORKERS': 4}"]
