"""Pages without a database."""

import time

from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import render

from testproject.shop.views.numbers import number


def raw(_request):
    return HttpResponse("Hello, World!", content_type="text/plain")


def hello(request):
    return render(request, "shop/hello.html", {"name": request.GET.get("name", "World")})


def stream(request):
    """`chunks` lines, `ms` milliseconds apart."""
    chunks, pause = number(request, "chunks", 10), number(request, "ms", 100) / 1000
    return StreamingHttpResponse(_lines(int(chunks), pause), content_type="text/plain")


def _lines(chunks, pause):
    for index in range(chunks):
        if index:
            time.sleep(pause)
        yield f"chunk {index}\n"
