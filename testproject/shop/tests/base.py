"""A seeded shop."""

import contextlib
import tempfile

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import TestCase, override_settings

from testproject.shop.models import Product


@contextlib.contextmanager
def seeded_shop():
    """A full shop, whose files go away in the end. PBKDF2's million rounds are not what is tested."""
    hashers = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    with (
        tempfile.TemporaryDirectory() as media,
        override_settings(MEDIA_ROOT=media, PASSWORD_HASHERS=hashers),
    ):
        call_command("seed", verbosity=0)
        yield


class ShopTestCase(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()  # opens the transaction that takes the seeded rows back
        cls.enterClassContext(seeded_shop())

    def setUp(self):
        self.product = Product.objects.get(slug="gyokuro")

    def log_in(self):
        demo = get_user_model().objects.get(username="demo")
        self.client.force_login(demo)
        return demo
