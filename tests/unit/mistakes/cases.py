"""Mistakes that people make at the start of a server: what they write, where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: A project of four files, with nothing wrong in it.
FILES: Final[Mapping[str, str]] = {
    "shop/__init__.py": "",
    "shop/settings.py": """
SECRET_KEY = "not-a-secret-that-anything-depends-on-but-long-enough-for-it"
ALLOWED_HOSTS = ["shop.example"]
INSTALLED_APPS = ["djworker"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
""",
    "shop/urls.py": """
from django.http import HttpResponse
from django.urls import path

def page(request):
    return HttpResponse("a page")

urlpatterns = [path("", page)]
""",
    "shop/wsgi.py": """
import os
from django.core.wsgi import get_wsgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()
""",
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is typed. files: what is appended to a file of the project, or a new one; environ: what is set besides."""

    words: str
    files: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        told = [f"# {name}: {text}" for name, text in self.files.items()]
        return "\n".join(
            [*told, " ".join(["$", *(f"{key}={value}" for key, value in self.environ.items()), self.words])]
        )


def manage(words: str, settings: str = "", **environ: str) -> Case:
    return Case(f"manage.py runworkers {words}".strip(), {"shop/settings.py": settings} if settings else {}, environ)


def djworker(words: str, files: Mapping[str, str] | None = None, **environ: str) -> Case:
    return Case(f"djworker {words}".strip(), files or {}, environ)


def control(words: str) -> Case:
    return Case(f"djworkerctl {words}")


def check(name: str, text: str, *words: str) -> Case:
    return Case(" ".join(["manage.py runworkers 127.0.0.1:0 --workers 1 --check", *words]), {name: text})


def broken_application(models: str) -> Case:
    """An application whose models do not load."""
    files = {"basket/__init__.py": "", "basket/models.py": f"from django.db import models\n{models}"}
    return Case("manage.py runworkers", {"shop/settings.py": 'INSTALLED_APPS += ["basket"]', **files})


SETTINGS: Final = "shop/settings.py"
LOGGING: Final = {
    "version": 1,
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "/no/such/folder/log"}},
}
POSTGRES: Final = 'DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}}\n'
CASES: Final = (
    # options
    manage("--wrokers 3"),
    manage("--work 3"),
    manage("--workers many"),
    manage("--workers 0"),
    manage("--workers"),
    manage("--timeout soon"),
    manage("--keep-alive -1"),
    manage("--limit-request-body 10MBytes"),
    manage("--log-level loud"),
    manage("--preload-mode yes"),
    manage("--socket-mode 999"),
    manage("--probe products"),
    manage("--max-requests-jitter 100 --check"),
    manage("--access-logformat %(zz)s"),
    manage("--access-logformat 100%"),
    manage("--forwarded-allow-ips 10.0.0.1/8"),
    manage("--forwarded-allow-ips proxy.example"),
    manage("--proxy-protocol v3"),
    manage("--workers 8..2"),
    manage("--workers auto"),
    manage("--control yes"),
    manage("--stall-threshold off"),
    manage("--check-migrations on"),
    manage("--request-id true"),
    manage("--probe false"),
    manage("--warm-up https://shop.example/"),
    manage("--check --print-config"),
    manage("--smoke products"),
    manage("--smoke --expect ok"),
    manage("--json"),
    # addresses
    manage("nonsense"),
    manage("127.0.0.1"),
    manage("8000 8001"),
    manage("0.0.0.0:80000"),
    manage("localhost:http"),
    manage("http://127.0.0.1:8000"),
    manage("--bind https://shop.example"),
    manage("/tmp/shop.sock"),
    manage("--bind unix:/no/such/folder/shop.sock"),
    manage("--bind fd://77"),
    manage("--bind 192.0.2.1:8000"),
    manage("--bind ::1:8000"),
    manage("--bind 127.0.0.1:8000 --bind 127.0.0.1:8000"),
    manage("--bind 9180 --status-bind 9180"),
    manage("--bind unix:/dev/null --status-bind 192.0.2.1:9180"),
    manage("--bind unix:/dev/null/shop.sock"),
    manage("--bind unix:/tmp"),
    # words that mean something else
    manage("reload"),
    manage("restart"),
    manage("status"),
    manage("stop"),
    manage("shop.wsgi"),
    manage("shop/wsgi.py"),
    djworker("shop/wsgi.py"),
    djworker("gunicorn.conf.py"),
    djworker("manage.py"),
    djworker("shop.wsgi reload"),
    control("statsu"),
    control("restart"),
    control("scale many"),
    control("--instance shop status"),
    control("log-level loud"),
    manage("--daemon"),
    manage("-k gthread"),
    manage("-c production.py"),
    manage("--threads 4 --check"),
    manage("--preload --check"),
    manage("--certfile x.pem"),
    manage("--worker-class uvicorn.workers.UvicornWorker"),
    djworker("import-gunicorn production.py"),
    djworker("import-gunicorn ./gunicorn.conf.py", {"gunicorn.conf.py": "import gunicorn_hooks_that_are_not_here"}),
    djworker("import-gunicorn shop.wsgi shop.asgi"),
    # the machine
    manage("--user no-such-user"),
    manage("--pid /no/such/folder/pid"),
    manage("--access-logfile /no/such/folder/access.log"),
    manage("--chdir /no/such/folder"),
    manage("--env SHOP"),
    # the environment
    manage("", DJWORKER_WORKRES="3", DJWORKER_TIMEOUT="fast"),
    manage("", PORT="http"),
    manage("", WEB_CONCURRENCY="auto"),
    djworker("", DJANGO_SETTINGS_MODULE=""),
    djworker("", DJANGO_SETTINGS_MODULE="shop.setings"),
    djworker("", DJANGO_SETTINGS_MODULE="shop/settings.py"),
    djworker("shop.wsgi --check", DJWORKER_POOL="5", DJWORKER_PORT="8000", GUNICORN_CMD_ARGS="-w 4"),
    djworker("shop.wsgi", FORWARDED_ALLOW_IPS="localhost"),
    djworker("shop.wsgi", WEB_CONCURRENCY="0"),
    # the settings
    manage("", "DJWORKER = []"),
    manage("", 'DJWORKER = {"WORKRES": 3, "workers": 4}'),
    manage("", 'DJWORKER = {"BIND": 8000.5, "TIMEOUT": None, "WORKERS": "two"}'),
    manage(
        "", POSTGRES + 'DJWORKER = {"POOL": {"max_sise": 3, "timeout": -1, "min_size": 20}, "POOLS": {"othre": {}}}'
    ),
    manage("", POSTGRES + 'DJWORKER = {"POOL": 10}'),
    manage("", POSTGRES + 'DJWORKER = {"MAX_SIZE": 4}'),
    manage("", POSTGRES + 'DJWORKER = {"POOL": {"max_size": 0, "lease": "session"}, "POOLS": {"default": 4}}'),
    manage("", 'DJWORKER = {"PROBE": ["/", 7], "WARM_UP": True, "PRELOAD": True, "UMASK": "rwx"}'),
    manage("", 'DATABASES = {"default": {"ENGINE": "django.db.backends.oracle", "NAME": "shop"}}'),
    manage("", 'DATABASES = {"default": "postgres://shop:secret@db.example/shop"}'),
    manage("", 'DATABASES = {"main": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop"}}'),
    djworker("", {SETTINGS: 'ALLOWED_HOSTS = "shop.example"'}, DJANGO_SETTINGS_MODULE="shop.settings"),
    djworker("", {SETTINGS: 'TIME_ZONE = "Mars/Olympus"'}, DJANGO_SETTINGS_MODULE="shop.settings"),
    djworker("", {SETTINGS: 'import os\nKEY = os.environ["SHOP_KEY"]'}, DJANGO_SETTINGS_MODULE="shop.settings"),
    djworker("", {SETTINGS: "ALLOWED_HOSTS = ["}, DJANGO_SETTINGS_MODULE="shop.settings"),
    djworker("", {SETTINGS: "1 / 0"}, DJANGO_SETTINGS_MODULE="shop.settings"),
    djworker("", {SETTINGS: "import environ_that_is_not_here"}, DJANGO_SETTINGS_MODULE="shop.settings"),
    # applications, which manage.py loads before it knows the command
    manage("", 'INSTALLED_APPS += ["shop.basket"]'),
    manage("", 'INSTALLED_APPS += ["debug_toolbar_that_is_not_here"]'),
    manage("", 'INSTALLED_APPS += ["shop.apps.ShopConfig"]'),
    manage("", 'INSTALLED_APPS += ["djworker"]'),
    broken_application("import stripe_that_is_not_here"),
    broken_application(
        "class Order(models.Model):\n    user = models.ForeignKey('shop.User', models.CASCADE)\n    price = no_such_name"
    ),
    manage("", 'INSTALLED_APPS += ["django.contrib.admin"]'),
    # the application
    djworker("shop.wsgii"),
    djworker("shop.wsgi:app --check"),
    djworker("shop:wsgi"),
    djworker("shop.settings"),
    djworker("shop.wsgi --check", {"shop/wsgi.py": "import flask_cors_that_is_not_here"}),
    djworker("shop.wsgi --check", {"shop/wsgi.py": "import sys; sys.exit('no licence')"}),
    # what loads, and does not work
    check(SETTINGS, 'MIDDLEWARE = ["shop.middleware.Basket"]'),
    check(SETTINGS, 'MIDDLEWARE = ["shop.urls.Basket"]'),
    check(SETTINGS, 'MIDDLEWARE = ["whitenoise_that_is_not_here.middleware.WhiteNoise"]'),
    check(SETTINGS, 'MIDDLEWARE = ["Basket"]'),
    check(SETTINGS, 'MIDDLEWARE = "django.middleware.common.CommonMiddleware"'),
    djworker("shop.wsgi --check", {SETTINGS: 'INSTALLED_APPS += ["shop.basket"]'}),
    check(SETTINGS, 'ROOT_URLCONF = "shop.url"'),
    check(SETTINGS, 'ROOT_URLCONF = "shop/urls.py"'),
    check("shop/urls.py", "urlpatterns = [('', page)]"),
    check("shop/urls.py", "urlpatterns = [path('', 'shop.urls.page')]"),
    check("shop/urls.py", "del urlpatterns"),
    check(SETTINGS, 'WSGI_APPLICATION = "shop.wsgi.app"'),
    check(SETTINGS, 'WSGI_APPLICATION = "shop.wsgii.application"'),
    check(SETTINGS, 'WSGI_APPLICATION = "application"'),
    check(
        SETTINGS,
        'AUTH_USER_MODEL = "shop.User"\nINSTALLED_APPS += ["django.contrib.contenttypes", "django.contrib.auth"]',
    ),
    check(
        SETTINGS, 'AUTH_USER_MODEL = "User"\nINSTALLED_APPS += ["django.contrib.contenttypes", "django.contrib.auth"]'
    ),
    check(SETTINGS, 'TEMPLATES = [{"BACKEND": "django.template.backends.jinja.Jinja"}]'),
    check(
        SETTINGS,
        'STORAGES = {"default": {"BACKEND": "storages_that_are_not_here.S3"}, "staticfiles": {"BACKEND": "x.Y"}}',
    ),
    check(SETTINGS, 'DATABASES = {"default": {"ENGINE": "django.db.backends.postgres", "NAME": "shop"}}'),
    check(SETTINGS, 'DATABASES = {"default": {"ENGINE": "postgresql", "NAME": "shop"}}'),
    djworker("shop.wsgi --check", {SETTINGS: f"LOGGING = {LOGGING}"}),
    check(SETTINGS, "DEBUG = True\nSECRET_KEY = ''"),
    check(SETTINGS, "ALLOWED_HOSTS = []"),
    check(SETTINGS, 'SECRET_KEY = "django-insecure-x"\nINSTALLED_APPS += ["django.contrib.contenttypes"]'),
    check(SETTINGS, "SECURE_SSL_REDIRECT = True", "-b 0.0.0.0:0"),
    check(SETTINGS, 'USE_X_FORWARDED_HOST = True\nDJWORKER = {"PROBE": []}', "-b 0.0.0.0:0"),
    check(
        SETTINGS, 'DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "HOST": "/no"}}'
    ),
    check(SETTINGS, 'DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/no/such/folder/db"}}'),
    check(SETTINGS, 'CACHES = {"default": {"BACKEND": "django.core.cache.RedisCache"}}'),
    check(SETTINGS, 'AUTHENTICATION_BACKENDS = ["shop.auth.Backend"]', "--strict"),
    check("shop/urls.py", "import shop.basket"),
    check("shop/urls.py", "import threading; threading.Event().wait()"),
    check("shop/urls.py", "urlpatterns = [path('', lambda request: 1 / 0)]", "--strict"),
    check("shop/wsgi.py", "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()"),
    check("shop/wsgi.py", 'application = "shop"'),
    check("shop/wsgi.py", "application = get_wsgi_application"),
)
