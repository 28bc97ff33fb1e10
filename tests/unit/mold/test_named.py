"""What settings name is loaded before a generation is trusted: one process tries every kind of mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="x",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()
from django.test import override_settings
from djworker.mold import blame, named

def bad():
    for question, ask in named.questions():
        try:
            ask()
        except Exception as error:
            yield question, blame.sentence(error)

found = {}
for name, changes in json.load(sys.stdin).items():
    with override_settings(**changes):
        found[name] = list(bad())
json.dump(found, sys.stdout)
"""
FILES = "django.core.files.storage.FileSystemStorage"
REDIS = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}}
TABLE = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "no_such_table"}}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"context_processors": ["shop.gone.basket"]},
    }
]
#: What the settings say, which question is answered badly, and a word of the answer.
MISTAKES: dict[str, tuple[dict[str, object], str, str]] = {
    "logins": (
        {"AUTHENTICATION_BACKENDS": ["shop.gone.Backend"]},
        "setting AUTHENTICATION_BACKENDS",
        "shop.gone.Backend",
    ),
    "mail": ({"EMAIL_BACKEND": "shop.gone.Mail"}, "setting EMAIL_BACKEND", "'shop.gone.Mail' cannot be imported"),
    "uploads": (
        {"FILE_UPLOAD_HANDLERS": ["shop.gone.Handler"]},
        "setting FILE_UPLOAD_HANDLERS",
        "No module named 'shop'",
    ),
    "passwords": ({"PASSWORD_HASHERS": ["shop.gone.Hasher"]}, "setting PASSWORD_HASHERS", "shop.gone.Hasher"),
    "reports": ({"DEFAULT_EXCEPTION_REPORTER": "shop.gone.R"}, "setting DEFAULT_EXCEPTION_REPORTER", "shop.gone.R"),
    "pages": ({"TEMPLATES": TEMPLATES}, "setting TEMPLATES", "shop.gone.basket"),
    "files": ({"STORAGES": {"default": {"BACKEND": "shop.gone.S"}}}, "storage 'default'", "shop.gone.S"),
    "a cache": ({"CACHES": {"default": {"BACKEND": "shop.gone.Cache"}}}, "cache 'default'", "shop.gone.Cache"),
    "a cache that is away": ({"CACHES": REDIS}, "cache 'default'", "Connection refused"),
    "sessions": ({"SESSION_ENGINE": "shop.gone"}, "sessions", "No module named 'shop'"),
}
GOOD: dict[str, dict[str, object]] = {
    "as they are": {},
    "tables of tenants are not asked for": {"CACHES": TABLE, "SESSION_ENGINE": "django.contrib.sessions.backends.db"},
    "sessions in cookies": {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"},
    "files alone": {"STORAGES": {"default": {"BACKEND": FILES}, "staticfiles": {"BACKEND": FILES}}},
}


@pytest.fixture(scope="module")
def answers() -> dict[str, list[list[str]]]:
    """The questions that are answered badly, by the name of the settings."""
    changes = {**GOOD, **{name: change for name, (change, _question, _word) in MISTAKES.items()}}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[list[str]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", MISTAKES)
def test_what_settings_name_and_is_not_there_is_found(answers: dict[str, list[list[str]]], name: str) -> None:
    _change, question, word = MISTAKES[name]
    [(asked, said)] = answers[name]
    assert asked == question
    assert word in said


@pytest.mark.parametrize("name", GOOD)
def test_good_settings_answer_every_question(answers: dict[str, list[list[str]]], name: str) -> None:
    assert answers[name] == []
