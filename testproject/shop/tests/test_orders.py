"""Orders: what is sold is there, and is sold once."""

import threading

from django.db import connection
from django.test import TransactionTestCase, skipUnlessDBFeature

from testproject.shop.models import Order, Product
from testproject.shop.orders import OrderError, place_order
from testproject.shop.tests.base import ShopTestCase, seeded_shop


class Checkout(ShopTestCase):
    def test_a_basket_becomes_an_order(self):
        self.client.post(f"{self.product.get_absolute_url()}basket", {"quantity": 3})
        self.assertContains(self.client.get("/checkout/"), "Gyokuro")
        self.assertRedirects(self.client.post("/checkout/", {"email": "a@b.example"}), "/")
        line = Order.objects.get(email="a@b.example").lines.get()
        self.assertEqual((line.product, line.quantity, line.price), (self.product, 3, self.product.price))
        self.assertEqual(Product.objects.get(pk=self.product.pk).stock, self.product.stock - 3)
        self.assertContains(self.client.get("/checkout/"), "It is empty.")

    def test_one_product_at_once_leaves_the_basket_alone(self):
        self.client.post(f"{self.product.get_absolute_url()}basket", {"quantity": 3})
        other = Product.objects.exclude(pk=self.product.pk).first()
        self.client.post("/checkout/", {"email": "a@b.example", "product": other.pk, "quantity": 2})
        self.assertEqual(Order.objects.get(email="a@b.example").lines.get().product, other)
        self.assertContains(self.client.get("/checkout/"), "Gyokuro")

    def test_an_order_belongs_to_the_customer_who_is_logged_in(self):
        self.log_in()
        self.client.post("/checkout/", {"email": "a@b.example", "product": self.product.pk})
        order = Order.objects.get(email="a@b.example")
        self.assertContains(self.client.get("/account/"), str(order))

    def test_more_than_there_is_cannot_be_ordered_and_nothing_changes(self):
        other = Product.objects.exclude(pk=self.product.pk).first()
        before = Order.objects.count()
        with self.assertRaisesMessage(OrderError, "are left"):
            place_order("a@b.example", {other.pk: 1, self.product.pk: 10_000})
        self.assertEqual(Order.objects.count(), before)
        self.assertEqual(Product.objects.get(pk=other.pk).stock, other.stock)

    def test_nothing_cannot_be_ordered(self):
        self.assertContains(
            self.client.post("/checkout/", {"email": "a@b.example"}), "nothing to order", status_code=422
        )

    def test_a_product_that_was_taken_off_the_list_cannot_be_ordered(self):
        Product.objects.filter(pk=self.product.pk).update(listed=False)
        with self.assertRaises(OrderError):
            place_order("a@b.example", {self.product.pk: 1})


class Rush(TransactionTestCase):
    @skipUnlessDBFeature("has_select_for_update")
    def test_many_customers_at_once_never_buy_more_than_there_is(self):
        self.enterContext(seeded_shop())
        product = Product.objects.get(slug="gyokuro")
        Product.objects.filter(pk=product.pk).update(stock=5)
        outcomes = []

        def buy():
            try:
                outcomes.append(bool(place_order("a@b.example", {product.pk: 1})))
            except OrderError:
                outcomes.append(False)
            finally:
                connection.close()

        buyers = [threading.Thread(target=buy) for _ in range(8)]
        for buyer in buyers:
            buyer.start()
        for buyer in buyers:
            buyer.join()
        self.assertEqual((sum(outcomes), len(outcomes)), (5, 8))
        self.assertEqual(Product.objects.get(pk=product.pk).stock, 0)
