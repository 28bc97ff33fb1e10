"""URLs of the shop."""

from django.conf import settings
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from testproject.shop.views import api, catalogue, checkout, debug, documents, plain, queries

debug_urlpatterns = [
    path("pid", debug.pid),
    path("sleep", debug.sleep),
    path("queries", debug.queries),
    path("spin", debug.spin),
    path("crash", debug.crash),
    path("echo", debug.echo),
    path("headers", debug.headers),
    path("modules", debug.modules),
]

urlpatterns = [
    path("", catalogue.catalogue, name="catalogue"),
    path("product/<slug:slug>/", catalogue.product, name="product"),
    path("product/<slug:slug>/basket", catalogue.add_to_basket, name="add-to-basket"),
    path("product/<slug:slug>/review", catalogue.review, name="review"),
    path("checkout/", checkout.checkout, name="checkout"),
    path("account/", checkout.account, name="account"),
    path("login", LoginView.as_view(template_name="shop/login.html"), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
    path("upload/", documents.upload, name="upload"),
    path("download/<str:name>", documents.download, name="download"),
    path("api/products/", api.products, name="api-products"),
    path("api/products/<int:pk>/", api.product, name="api-product"),
    path("api/orders/", api.order, name="api-order"),
    path("raw", plain.raw, name="raw"),
    path("hello", plain.hello, name="hello"),
    path("stream", plain.stream, name="stream"),
    path("db", queries.db, name="db"),
    path("wait", queries.wait, name="wait"),
    path("report", queries.report, name="report"),
    *([path("debug/", include(debug_urlpatterns))] if settings.SHOP_DEBUG_VIEWS else []),
]
