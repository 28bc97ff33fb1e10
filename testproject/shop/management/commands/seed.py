"""``manage.py seed``: fill an empty shop."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils.text import slugify

from testproject.shop import documents
from testproject.shop.goods import CITIES, GOODS, PRAISE
from testproject.shop.models import Category, Customer, Document, Order, OrderLine, Product, Review

OPENED = datetime(2026, 1, 2, 9, tzinfo=UTC)
CUSTOMERS, REVIEWS, ORDERS = 20, 150, 80
CATALOGUE_SIZE = 1 << 20  # bytes, about: a download that is worth a sendfile


class Command(BaseCommand):
    """The same shop each time. What is there already, and what people changed, stays as it is."""

    help = "Fill the shop: goods, customers, orders, documents. Safe to run again."

    def handle(self, *_args, **options):
        chance = random.Random(20260102)
        with transaction.atomic():
            products = _products(chance)
            customers = _people(chance)
            if not Order.objects.exists():
                _orders(chance, products, customers)
            if not Review.objects.exists():
                _reviews(chance, products, customers)
            _documents(products)
        if options["verbosity"]:
            users = "users demo/demo and admin/admin"
            self.stdout.write(f"The shop has {len(products)} products, {Order.objects.count()} orders, {users}.")


def _products(chance):
    products = []
    for name, (description, goods) in GOODS.items():
        category, _ = Category.objects.get_or_create(
            slug=slugify(name), defaults={"name": name, "description": description}
        )
        for title in goods:
            made_up = {
                "category": category,
                "name": title,
                "description": f"{title}. {description}",
                "price": Decimal(chance.randrange(390, 4990, 10)) / 100,
                "stock": chance.randrange(20, 400),
                "added": OPENED + timedelta(days=len(products)),
            }
            products.append(Product.objects.get_or_create(slug=slugify(title), defaults=made_up)[0])
    return products


def _people(chance):
    users = get_user_model().objects
    if not users.filter(username="admin").exists():
        users.create_superuser("admin", "admin@shop.example", "admin")
    names = ["demo", *(f"customer{number}" for number in range(1, CUSTOMERS))]
    return [_customer(users, name, chance.choice(CITIES), newsletter=chance.random() < 0.4) for name in names]


def _customer(users, name, city, *, newsletter):
    user, new = users.get_or_create(
        username=name, defaults={"email": f"{name}@shop.example", "first_name": name.title()}
    )
    if new:
        # Hashing is slow on purpose; only one of them ever logs in.
        user.set_password("demo") if name == "demo" else user.set_unusable_password()
        user.save(update_fields=["password"])
    return Customer.objects.get_or_create(user=user, defaults={"city": city, "newsletter": newsletter})[0]


def _orders(chance, products, customers):
    """Write the past. It takes nothing out of stock; place_order() is for the present."""
    for number in range(ORDERS):
        customer = chance.choice(customers)
        placed = OPENED + timedelta(days=60 + 3 * number, hours=chance.randrange(10))
        order = Order.objects.create(customer=customer, email=customer.user.email, placed=placed, status="shipped")
        goods = chance.sample(products, chance.randint(1, 4))
        lines = [OrderLine(order=order, product=one, quantity=chance.randint(1, 3), price=one.price) for one in goods]
        OrderLine.objects.bulk_create(lines)
        order.total = sum(line.price * line.quantity for line in lines)
        order.save(update_fields=["total"])


def _reviews(chance, products, customers):
    pairs = chance.sample([(product, customer) for product in products for customer in customers], REVIEWS)
    Review.objects.bulk_create(
        Review(
            product=product,
            customer=customer,
            stars=chance.choice([3, 4, 4, 5, 5, 5, 2, 1]),
            text=chance.choice(PRAISE),
            written=OPENED + timedelta(days=200, minutes=37 * number),
        )
        for number, (product, customer) in enumerate(pairs)
    )


def _documents(products):
    terms = "We send what you ordered. You may send it back.\n" * 20
    rows = "".join(f"{product.slug},{product.name},{product.price}\n" for product in products)
    catalogue = rows * (CATALOGUE_SIZE // len(rows) + 1)
    for name, title, text in (
        ("terms.txt", "Terms of business", terms),
        ("catalogue.csv", "The whole catalogue", catalogue),
    ):
        found = Document.objects.filter(name=name).first()
        # The database may be new and the files old, or the other way round.
        if found is None or not found.file.storage.exists(found.file.name):
            documents.store(name, title, ContentFile(text.encode(), name=name))
