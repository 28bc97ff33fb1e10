"""Weblate: one project with a translated component. It runs on PostgreSQL only, and needs Redis."""

from __future__ import annotations

from typing import Final

from tests.apps.application import EMAIL, PASSWORD, POSTGRES, USER, Application, Place

_MANAGE: Final = """
import os, sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
_SETTINGS: Final = """
import json, os
from weblate.settings_example import *

DEBUG = False
SITE_DOMAIN = "localhost"
SITE_URL = "http://localhost"
SECRET_KEY = "only-of-a-project-that-is-crawled-in-a-test-and-then-removed"
ADMINS = ()
DATA_DIR = os.path.join(os.path.dirname(__file__), "data")
CACHE_DIR = os.path.join(DATA_DIR, "cache")
MEDIA_ROOT, STATIC_ROOT = os.path.join(DATA_DIR, "media"), os.path.join(CACHE_DIR, "static")
DATABASES = {"default": json.loads(os.environ["APPS_DATABASE"])}
CACHES["default"]["LOCATION"] = os.environ["APPS_REDIS"] + "/1"
CACHES["avatar"]["LOCATION"] = os.path.join(CACHE_DIR, "avatar")
CELERY_TASK_ALWAYS_EAGER = True
CELERY_BROKER_URL = os.environ["APPS_REDIS"]
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
ENABLE_AVATARS = False
OTP_WEBAUTHN_RP_ID = "localhost"
OTP_WEBAUTHN_ALLOWED_ORIGINS = ["https://localhost"]
RATELIMIT_ATTEMPTS = 1_000_000  # all clients have one address
API_RATELIMIT_ANON = API_RATELIMIT_USER = "1000000/hour"
"""
_CATALOG: Final = """\
msgid ""
msgstr ""
"Project-Id-Version: crawled\\\\n"
"Language: {language}\\\\n"
"MIME-Version: 1.0\\\\n"
"Content-Type: text/plain; charset=UTF-8\\\\n"
"Content-Transfer-Encoding: 8bit\\\\n"

"""
#: A component without a repository elsewhere, as one that is made from files in a browser: Weblate clones from no folder.
_FILL: Final = """
from pathlib import Path
from weblate.auth.models import User
from weblate.trans.models import Component, Project
from weblate.vcs.git import LocalRepository

user = User.objects.create_superuser("{user}", "{email}", "{password}")
project = Project.objects.create(name="Crawled", slug="crawled", web="http://localhost/")
component = Component(
    project=project, name="Words", slug="words", vcs="local", repo="local:", branch="main", filemask="po/*.po",
    new_base="messages.pot", file_format="po",
)
words = Path("words")
files = {{str(path.relative_to(words)): path.read_bytes() for path in words.rglob("*.po*")}}
LocalRepository.from_files(component.full_path, files)
component.save(force_insert=True)
assert component.translation_set.count() >= 2
"""


def prepare(place: Place) -> None:
    """Set it up as its manual does with pip."""
    place.write("manage.py", _MANAGE)
    place.write("crawled_settings.py", _SETTINGS)
    place.manage("migrate", "--verbosity", "0")
    place.manage("collectstatic", "--noinput", "--verbosity", "0")
    for name, language in (("messages.pot", ""), ("po/de.po", "de"), ("po/cs.po", "cs")):
        words = (f'msgid "Word {number}"\nmsgstr "{language and f"{language} {number}"}"\n' for number in range(40))
        place.write(f"words/{name}", _CATALOG.format(language=language) + "\n".join(words))
    place.manage("shell", text=_FILL.format(user=USER, email=EMAIL, password=PASSWORD))


APPLICATION: Final = Application(
    name="Weblate",
    packages=["weblate[postgres]"],
    prepare=prepare,
    wsgi="weblate.wsgi",
    settings="crawled_settings",
    login="/accounts/login/",
    fields={"username": USER, "password": PASSWORD},
    seeds=["/", "/projects/", "/projects/crawled/words/", "/translate/crawled/words/de/", "/manage/", "/api/"],
    avoid=["/js/", "/accounts/reset", "/download/", "/manage/tools", "/manage/performance"],
    databases=[POSTGRES],
    without="It runs on PostgreSQL only.",
    variables={"DJANGO_SETTINGS_MODULE": "crawled_settings"},
    remark="one project with a component in two languages",
)
