"""What visitors see."""

import hashlib

from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command

from testproject.shop.models import Category, Customer, Document, Order, OrderLine, Product, Review
from testproject.shop.tests.base import ShopTestCase


class Visiting(ShopTestCase):
    def test_the_catalogue_shows_products_and_filters_them(self):
        self.assertContains(self.client.get("/"), "Assam Mangalam")
        self.assertContains(self.client.get("/?category=green-tea"), "Gyokuro")
        self.assertNotContains(self.client.get("/?category=teaware"), "Gyokuro")
        self.assertContains(self.client.get("/?q=gyok"), "Gyokuro")
        self.assertContains(self.client.get("/?page=2"), 'aria-current="page">2')

    def test_the_catalogue_needs_as_many_queries_for_many_products_as_for_few(self):
        with self.assertNumQueries(3):  # count, products, categories
            self.client.get("/")

    def test_a_product_has_a_page(self):
        self.assertContains(self.client.get(self.product.get_absolute_url()), "in stock")
        self.assertEqual(self.client.get("/product/nothing/").status_code, 404)

    def test_pages_without_a_database(self):
        with self.assertNumQueries(0):
            self.assertEqual(self.client.get("/raw").content, b"Hello, World!")
            self.assertContains(self.client.get("/hello"), "Hello, World!")
            stream = self.client.get("/stream?chunks=3&ms=0")
            self.assertEqual(b"".join(stream.streaming_content), b"chunk 0\nchunk 1\nchunk 2\n")

    def test_one_query_and_many(self):
        with self.assertNumQueries(1):
            self.assertEqual(self.client.get("/db").json()["name"], "Assam Mangalam")
        with self.assertNumQueries(2 + 5 * Category.objects.count()):
            self.assertContains(self.client.get("/report"), "Herbal")

    def test_a_query_string_that_is_nonsense_is_refused(self):
        self.assertEqual(self.client.get("/stream?ms=soon").status_code, 400)
        self.assertEqual(self.client.get("/stream?ms=nan").status_code, 400)
        self.assertEqual(self.client.get("/wait?ms=-1").status_code, 400)

    def test_a_dead_supplier_is_told_of(self):
        with self.settings(SLOW_SERVICE_URL="http://127.0.0.1:1/"):
            answer = self.client.get("/wait")
        self.assertEqual(answer.status_code, 502)
        self.assertIn("The supplier does not answer: ", answer.json()["error"])

    def test_debug_views_are_off_unless_asked_for(self):
        self.assertEqual(self.client.get("/debug/pid").status_code, 404)

    def test_static_files(self):
        style = self.client.get("/static/shop/shop.css")
        self.assertIn(b".products", b"".join(style.streaming_content))


class Customers(ShopTestCase):
    def test_logging_in(self):
        answer = self.client.post("/login", {"username": "demo", "password": "demo"})
        self.assertRedirects(answer, "/account/")

    def test_an_upload_can_be_downloaded(self):
        self.log_in()
        data = bytes(range(256)) * 1000
        file = SimpleUploadedFile("a photograph.bin", data)
        answer = self.client.post("/upload/", {"title": "Teapot", "file": file}, follow=True)
        self.assertContains(answer, hashlib.sha256(data).hexdigest())
        document = Document.objects.get(title="Teapot")
        download = self.client.get(document.get_absolute_url())
        self.assertEqual(b"".join(download.streaming_content), data)
        self.assertIn("attachment", download["Content-Disposition"])

    def test_uploads_are_for_customers(self):
        self.assertRedirects(self.client.get("/upload/"), "/login?next=/upload/")

    def test_a_second_review_replaces_the_first(self):
        demo = self.log_in()
        for stars in (2, 5):
            self.client.post(f"{self.product.get_absolute_url()}review", {"stars": stars, "text": "Yes."})
        self.assertEqual([review.stars for review in self.product.reviews.filter(customer__user=demo)], [5])

    def test_the_back_office(self):
        self.client.force_login(get_user_model().objects.get(username="admin"))
        for page in ("", "category/", "product/", "order/", "customer/", "review/", "document/"):
            self.assertEqual(self.client.get(f"/admin/shop/{page}").status_code, 200, page)


class Api(ShopTestCase):
    def test_products(self):
        first = self.client.get("/api/products/").json()
        self.assertEqual((first["count"], first["pages"], len(first["products"])), (43, 3, 20))
        one = self.client.get(f"/api/products/{self.product.pk}/").json()
        self.assertEqual(one["name"], "Gyokuro")

    def test_an_order(self):
        lines = [{"product": self.product.pk, "quantity": 2}]
        answer = self.client.post("/api/orders/", {"email": "a@b.example", "lines": lines}, "application/json")
        self.assertEqual(answer.status_code, 201)
        self.assertEqual(Order.objects.get(pk=answer.json()["order"]).total, 2 * self.product.price)

    def test_what_is_no_order_is_refused(self):
        for body in ("", "[]", '{"email": "nobody", "lines": []}'):
            self.assertEqual(self.client.post("/api/orders/", body, "application/json").status_code, 400, body)


class Seeding(ShopTestCase):
    def test_a_second_time_changes_nothing(self):
        models = (Category, Customer, Document, Order, OrderLine, Product, Review)
        before = [list(model.objects.order_by("pk").values()) for model in models]
        call_command("seed", verbosity=0)
        self.assertEqual(before, [list(model.objects.order_by("pk").values()) for model in models])
