"""Settings and URLs of a site that somebody else serves: its engine is named in DATABASES, and nothing more."""

from __future__ import annotations

import os

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

import djworker.db

SECRET_KEY = "as short as its life"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = __name__
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": os.environ["SITE_ENGINE"],
        "NAME": os.environ["SITE_DATABASE"],
        "USER": os.environ["SITE_USER"],
        "PASSWORD": os.environ["SITE_PASSWORD"],
        "HOST": "127.0.0.1",
        "PORT": os.environ["SITE_PORT"],
    }
}
DJWORKER = {"POOL": {"max_size": 2}}


def ask(_request: HttpRequest) -> HttpResponse:
    """A query that takes its time; how many connections were made so far."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {'pg_sleep' if connection.vendor == 'postgresql' else 'sleep'}(0.02)")
    return HttpResponse(f"{djworker.db.stats()['default']['connections_num']}")


urlpatterns = [path("ask", ask)]
