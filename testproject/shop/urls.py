"""URLs of the shop."""

from django.urls import path

from testproject.shop.views import plain

urlpatterns = [
    path("raw", plain.raw, name="raw"),
    path("hello", plain.hello, name="hello"),
]
