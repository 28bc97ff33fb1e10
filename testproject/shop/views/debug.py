"""What only tests may ask: these views tell secrets, and one of them kills. See SHOP_DEBUG_VIEWS."""

import hashlib
import os
import signal
import sys
import time

from django.http import HttpResponseBadRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from testproject.shop import VERSION
from testproject.shop.models import Product
from testproject.shop.views.numbers import number

CHUNK = 65536


def pid(_request):
    return JsonResponse({"pid": os.getpid(), "ppid": os.getppid(), "version": VERSION})


def sleep(request):
    """Wait `s` seconds; under gevent other requests go on."""
    time.sleep(number(request, "s", 3))
    return JsonResponse({"pid": os.getpid(), "version": VERSION})


def queries(request):
    """Ask `n` times what is in stock, and wait `ms` milliseconds between two questions, as for another service."""
    found, pause = [], number(request, "ms", 100) / 1000
    for turn in range(int(number(request, "n", 2, most=100))):
        if turn and pause:
            time.sleep(pause)
        found.append(Product.objects.order_by("pk").values_list("stock", flat=True).first())
    return JsonResponse({"stock": found})


def spin(request):
    """Burn the CPU for `s` seconds, without ever yielding."""
    end = time.monotonic() + number(request, "s", 10)
    while time.monotonic() < end:
        sum(range(1000))
    return JsonResponse({"pid": os.getpid()})


def crash(request):
    """End this process. `how`: `exit` (with `code`), `raise`, or a signal's name without SIG."""
    how = request.GET.get("how", "exit")
    if how == "exit":
        os._exit(int(number(request, "code", 1)))
    if how == "raise":
        raise RuntimeError("asked for by /debug/crash")
    try:
        os.kill(os.getpid(), signal.Signals[f"SIG{how.upper()}"])
    except KeyError:
        return HttpResponseBadRequest("how?")
    return JsonResponse({"pid": os.getpid()})


@csrf_exempt
def echo(request):
    """Length and sha256 of the body, read piece by piece."""
    digest, length = hashlib.sha256(), 0
    while chunk := request.read(CHUNK):
        digest.update(chunk)
        length += len(chunk)
    return JsonResponse({"method": request.method, "length": length, "sha256": digest.hexdigest()})


@csrf_exempt
def headers(request):
    """What WSGI told of the request: every string of the environ that a client can influence."""
    ours = ("CONTENT_", "HTTP_", "PATH_", "QUERY_", "REMOTE_", "REQUEST_", "SCRIPT_", "SERVER_", "wsgi.url")
    found = {name: value for name, value in request.environ.items() if name.startswith(ours) and isinstance(value, str)}
    return JsonResponse(found)


def modules(_request):
    """Which modules are loaded, and what gevent patched."""
    patched = sorted(sys.modules["gevent.monkey"].saved) if "gevent.monkey" in sys.modules else []
    return JsonResponse({"pid": os.getpid(), "modules": sorted(sys.modules), "patched": patched})
