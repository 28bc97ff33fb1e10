"""Pages without a database."""

from django.http import HttpResponse
from django.shortcuts import render


def raw(_request):
    return HttpResponse("Hello, World!", content_type="text/plain")


def hello(request):
    return render(request, "shop/hello.html", {"name": request.GET.get("name", "World"), "items": range(20)})
