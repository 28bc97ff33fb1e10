"""A fresh project, as ``django-admin startproject`` makes it, with the few things that the documents need of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: What a project for production has in the place of startproject's lines for development.
PRODUCTION = """
import os
DEBUG = False
SECRET_KEY = "a key that only a test has, and that is long enough for Django"
ALLOWED_HOSTS = ["shop.example"]
STATIC_ROOT = BASE_DIR / "staticfiles"
INSTALLED_APPS += ["djworker"]
DATABASES["default"]["NAME"] = "/srv/shop/data/db.sqlite3"
RELEASE = "one"
"""
#: Pages by which a test tells what the server was told.
URLS = """
import os
import sys

from django.conf import settings
from django.contrib import admin
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def home(request):
    meta = {name: value for name, value in request.META.items() if isinstance(value, str)}
    return JsonResponse({**meta, "release": settings.RELEASE, "uid": os.getuid(), "arbiter": os.getppid()})


@csrf_exempt
def upload(request):
    return HttpResponse(str(request.FILES["file"].size) if request.FILES else str(len(request.read())))


def slow(request):
    import time
    time.sleep(60)
    return HttpResponse("done")


def health(request):
    return HttpResponse("ok")


urlpatterns = [
    path("", home),
    path("admin/", admin.site.urls),
    path("upload", upload),
    path("slow", slow),
    path("healthz", health),
]
"""


def start_project(folder: Path, name: str = "shop") -> None:
    """Run ``django-admin startproject``, and no more."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "django", "startproject", name, str(folder)], check=True, timeout=60)


def make(folder: Path, settings: str = "") -> None:
    """A project that is fit for production, with these settings beside."""
    start_project(folder)
    append(folder / "shop" / "settings.py", PRODUCTION + settings)
    (folder / "shop" / "urls.py").write_text(URLS)


def append(path: Path, text: str) -> None:
    """Add lines to a file."""
    path.write_text(f"{path.read_text()}\n{text}\n")
