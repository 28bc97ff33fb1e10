"""Wagtail: the project of ``wagtail start``, with some pages, served with its production settings."""

from __future__ import annotations

from typing import Final

from tests.apps.application import EMAIL, PASSWORD, USER, Application, Place

_LOCAL: Final = """
import json, os
from .base import INSTALLED_APPS
INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.postgres"]
SECRET_KEY = "only-of-a-project-that-is-crawled-in-a-test-and-then-removed"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
DATABASES = {"default": json.loads(os.environ["APPS_DATABASE"])}
WAGTAILADMIN_BASE_URL = "http://localhost"
"""
_FILL: Final = """
import io
from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from home.models import HomePage
from PIL import Image as Picture
from wagtail.documents.models import Document
from wagtail.images.models import Image
from wagtail.models import Site
from wagtail.contrib.redirects.models import Redirect

user = get_user_model().objects.create_superuser("{user}", "{email}", "{password}")
home = HomePage.objects.first()
for number in range(12):
    page = home.add_child(instance=HomePage(title=f"Chapter {{number}}", slug=f"chapter-{{number}}", show_in_menus=True))
    page.save_revision(user=user).publish()
    below = page.add_child(instance=HomePage(title=f"Section {{number}}", slug="section", live=number % 3 > 0))
    below.save_revision(user=user)
for number in range(6):
    file = io.BytesIO()
    Picture.new("RGB", (400, 300), (number * 40, 80, 120)).save(file, "PNG")
    Image.objects.create(title=f"Picture {{number}}", file=ContentFile(file.getvalue(), f"picture-{{number}}.png"))
    Document.objects.create(title=f"Paper {{number}}", file=ContentFile(b"words " * 200, f"paper-{{number}}.txt"))
    Redirect.objects.create(old_path=f"/old-{{number}}", redirect_page=home, is_permanent=bool(number % 2))
"""


def prepare(place: Place) -> None:
    """Make the project as Wagtail's tutorial does."""
    place.run(str(place.python.parent / "wagtail"), "start", "mysite", ".")
    place.write("mysite/settings/local.py", _LOCAL)
    place.manage("migrate", "--verbosity", "0")
    place.manage("collectstatic", "--noinput", "--verbosity", "0")
    place.manage("shell", text=_FILL.format(user=USER, email=EMAIL, password=PASSWORD))


APPLICATION: Final = Application(
    name="Wagtail",
    packages=["wagtail"],
    prepare=prepare,
    wsgi="mysite.wsgi",
    settings="mysite.settings.production",
    login="/admin/login/",
    fields={"username": USER, "password": PASSWORD, "next": "/admin/"},
    seeds=["/", "/admin/", "/django-admin/", "/search/?query=chapter", "/old-1", "/no-such-page/"],
    avoid=["ordering=usage_count"],  # it is 0 for all, and MariaDB chooses the order
    differs={r'"modelNames": \[[^\]]*\]': "the order of a set of classes, which are hashed by their addresses"},
    variables={"DJANGO_SETTINGS_MODULE": "mysite.settings.production"},
    remark="the project of `wagtail start`, its production settings",
)
