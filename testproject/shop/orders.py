"""Placing an order: the one place that takes goods out of stock."""

import logging
from collections import Counter

from django.db import transaction

from testproject.shop.models import Order, OrderLine, Product

logger = logging.getLogger(__name__)


class OrderError(ValueError):
    """The order cannot be placed; the message is for the customer."""


def place_order(email, wanted, customer=None):
    """Place an order, or change nothing.

    wanted: product id to number of pieces. Raises OrderError.
    """
    wanted = Counter(wanted)
    if not wanted or min(wanted.values()) < 1:
        raise OrderError("There is nothing to order.")
    with transaction.atomic():
        # In the order of the keys: two customers who want the same two products must not wait for each other.
        products = list(Product.objects.select_for_update().filter(pk__in=wanted, listed=True).order_by("pk"))
        if len(products) < len(wanted):
            raise OrderError("Something in this order is not for sale any more.")
        order = Order.objects.create(email=email, customer=customer)
        OrderLine.objects.bulk_create(_take(product, wanted[product.pk], order) for product in products)
        Product.objects.bulk_update(products, ["stock"])
        order.total = sum(product.price * wanted[product.pk] for product in products)
        order.save(update_fields=["total"])
        transaction.on_commit(lambda: logger.info("order %s placed: %s", order.pk, order.total))
    return order


def _take(product, quantity, order):
    if product.stock < quantity:
        raise OrderError(f"Only {product.stock} of {product.name} are left.")
    product.stock -= quantity
    return OrderLine(order=order, product=product, quantity=quantity, price=product.price)
