"""A project with more than thirty popular packages, a few pages of each: middleware, models, admin, API, forms, caches."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.apps.application import EMAIL, PASSWORD, USER, Application, Place

_FILES: Final = Path(__file__).with_name("garden")
PACKAGES: Final = (
    "Django",
    "crispy-bootstrap5",
    "django-allauth",
    "django-auditlog",
    "django-axes",
    "django-celery-beat",
    "django-celery-results",
    "django-constance",
    "django-cors-headers",
    "django-countries",
    "django-crispy-forms",
    "django-csp",
    "django-environ",
    "django-extensions",
    "django-filter",
    "django-guardian",
    "django-htmx",
    "django-import-export",
    "django-model-utils",
    "django-money",
    "django-mptt",
    "django-oauth-toolkit",
    "django-otp",
    "django-parler",
    "django-polymorphic",
    "django-redis",
    "django-reversion",
    "django-simple-history",
    "django-solo",
    "django-tables2",
    "django-taggit",
    "django-treebeard",
    "django-waffle",
    "django-widget-tweaks",
    "djangorestframework",
    "djangorestframework-simplejwt",
    "drf-spectacular",
    "easy-thumbnails",
    "whitenoise",
)


def prepare(place: Place) -> None:
    """Copy the project, whose files lie beside this one, and fill it."""
    for path in _FILES.rglob("*.py"):
        place.write(str(path.relative_to(_FILES)), path.read_text())
    place.manage("migrate", "--verbosity", "0")  # MariaDB wants the tables first that keys lead to
    place.manage("migrate", "--run-syncdb", "--verbosity", "0")
    place.manage("collectstatic", "--noinput", "--verbosity", "0")
    place.manage("fill", USER, EMAIL, PASSWORD)


APPLICATION: Final = Application(
    name="thirty packages",
    packages=PACKAGES,
    prepare=prepare,
    wsgi="garden.wsgi",
    settings="garden.settings",
    login="/accounts/login/",
    fields={"login": USER, "password": PASSWORD},
    seeds=["/", "/admin/", "/api/", "/api/schema/", "/accounts/signup/", "/no-such-page/"],
    avoid=["/accounts/password/reset/key", "/garden/tool/add/$"],
    variables={"DJANGO_SETTINGS_MODULE": "garden.settings"},
    remark=f"a project that has {', '.join(PACKAGES[1:])}",
)
