"""django-oscar: a shop as its documentation sets one up. Its sandbox is in its repository, and in no release."""

from __future__ import annotations

from typing import Final

from tests.apps.application import EMAIL, PASSWORD, USER, Application, Place

_MANAGE: Final = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "frobshop.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
_WSGI: Final = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "frobshop.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
_SETTINGS: Final = """
import json, os
from oscar import INSTALLED_APPS as OSCAR_APPS
from oscar.defaults import *

SECRET_KEY = "only-of-a-project-that-is-crawled-in-a-test-and-then-removed"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
DATABASES = {"default": {**json.loads(os.environ["APPS_DATABASE"]), "ATOMIC_REQUESTS": True}}
INSTALLED_APPS = OSCAR_APPS
SITE_ID = 1
USE_TZ = True
ROOT_URLCONF = "frobshop.urls"
WSGI_APPLICATION = "frobshop.wsgi.application"
STATIC_URL, STATIC_ROOT = "/static/", os.path.join(os.path.dirname(__file__), "static")
MEDIA_URL, MEDIA_ROOT = "/media/", os.path.join(os.path.dirname(__file__), "media")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "oscar.apps.basket.middleware.BasketMiddleware",
    "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.debug",
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
        "oscar.apps.search.context_processors.search_form",
        "oscar.apps.checkout.context_processors.checkout",
        "oscar.apps.communication.notifications.context_processors.notifications",
        "oscar.core.context_processors.metadata",
    ]},
}]
AUTHENTICATION_BACKENDS = (
    "oscar.apps.customer.auth_backends.EmailBackend",
    "django.contrib.auth.backends.ModelBackend",
)
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
OSCAR_INITIAL_ORDER_STATUS = "Pending"
OSCAR_ORDER_STATUS_PIPELINE = {"Pending": ("Cancelled",), "Cancelled": ()}
"""
_URLS: Final = """
from django.apps import apps
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
    path("", include(apps.get_app_config("oscar").urls[0])),
]
"""
_FILL: Final = """
from decimal import Decimal
from django.contrib.auth import get_user_model
from oscar.apps.catalogue.categories import create_from_breadcrumbs
from oscar.apps.catalogue.models import Product, ProductCategory, ProductClass
from oscar.apps.catalogue.reviews.models import ProductReview
from oscar.apps.partner.models import Partner, StockRecord
from oscar.test.factories import create_order

user = get_user_model().objects.create_superuser("{user}", "{email}", "{password}")
partner = Partner.objects.create(name="Partner")
books = ProductClass.objects.create(name="Book", track_stock=True)
sections = [create_from_breadcrumbs(f"Books > Section {{number}}") for number in range(4)]
for number in range(60):
    product = Product.objects.create(product_class=books, title=f"Book {{number}}", upc=f"upc{{number}}", description="Words.")
    StockRecord.objects.create(
        product=product, partner=partner, partner_sku=f"sku{{number}}", price=Decimal(number), num_in_stock=1000
    )
    ProductCategory.objects.create(product=product, category=sections[number % 4])
    if number % 5 == 0:
        ProductReview.objects.create(product=product, score=4, title="Good", body="Read it.", user=user, status=1)
for number in range(5):
    create_order(number=f"{{1000 + number}}", user=user)
"""


def prepare(place: Place) -> None:
    """Make the project of oscar's documentation."""
    place.write("manage.py", _MANAGE)
    place.write("frobshop/__init__.py", "")
    place.write("frobshop/settings.py", _SETTINGS)
    place.write("frobshop/urls.py", _URLS)
    place.write("frobshop/wsgi.py", _WSGI)
    place.manage("migrate", "--verbosity", "0")
    place.manage("oscar_populate_countries", "--initial-only")
    place.manage("shell", text=_FILL.format(user=USER, email=EMAIL, password=PASSWORD))


APPLICATION: Final = Application(
    name="django-oscar",
    packages=["django-oscar", "sorl-thumbnail", "pycountry"],
    prepare=prepare,
    wsgi="frobshop.wsgi",
    settings="frobshop.settings",
    login="/accounts/login/",
    fields={"login-username": EMAIL, "login-password": PASSWORD, "login_submit": "1"},
    seeds=["/", "/catalogue/", "/dashboard/", "/admin/", "/search/?q=book", "/basket/"],
    remark="the shop of its documentation with 60 products, `ATOMIC_REQUESTS` on; its sandbox is in no release on PyPI",
)
