# ruff: noqa: ANN001, ANN201, ANN202 - an ordinary Django module
"""Views that fail in ways which the shop's own debug views do not. Copied into the project, not imported by the tests."""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from testproject.shop.models import Product
from testproject.shop.views import debug


def block_in_c(_request):
    """Hold the GIL, so that no thread of Python can look."""
    re.match("(a+)+$", "a" * 60 + "b")
    return HttpResponse()


def gate(request):
    """Block the hub until somebody writes to a pipe."""
    return HttpResponse(Path(request.GET["path"]).read_text())


def crash_in_c(_request):
    """Segmentation fault."""
    ctypes.string_at(0)
    return HttpResponse()


def orphan(_request):
    """Fork twice; the grandchild outlives its parent, comes to whoever reaps orphans, and ends with code 3."""
    pid = os.fork()
    if not pid:
        if not os.fork():
            os._exit(3)
        os._exit(0)
    os.waitpid(pid, 0)
    return HttpResponse()


def big(request):
    """So many pieces of 64 KiB."""
    piece = b"x" * 65536
    return StreamingHttpResponse(piece for _ in range(int(request.GET["pieces"])))


HOARD = []


def hoard(request):
    """Keep so many MiB for good, each page of them touched."""
    HOARD.append(bytearray(b"x") * (int(request.GET.get("mib", 1)) << 20))
    return debug.pid(request)


def account(_request):
    """Whose rights this worker has."""
    mask = os.umask(0)
    os.umask(mask)
    return JsonResponse({"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "umask": mask})


def is_held(request):
    """Whether a test has the view go on: until there is a file of that name."""
    return "until" in request.GET and not Path(request.GET["until"]).exists()


async def nap(request, result):
    """For `s` seconds, or until a test says that it is enough."""
    await asyncio.sleep(float(request.GET.get("s", 0)))
    while is_held(request):  # noqa: ASYNC110 - the event is another process's
        await asyncio.sleep(0.01)
    return result


async def wait(request):
    """Ask the database, wait, ask again; `asyncio` in all the ways that an ordinary async view uses it."""
    before = await Product.objects.acount()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        naps = [group.create_task(nap(request, number)) for number in range(3)]
    slept = await asyncio.gather(*naps)
    found = [product.pk async for product in Product.objects.order_by("pk")[:3]]
    task = asyncio.current_task()
    return JsonResponse(
        {"before": before, "slept": slept, "found": len(found), "mine": task in asyncio.all_tasks(), "pid": os.getpid()}
    )


def version(request):
    """Go on for as long as a test wants; which code has answered."""
    while is_held(request):
        time.sleep(0.01)
    return debug.pid(request)


def run_loop(request):
    """A synchronous view that runs a loop of its own."""
    return JsonResponse({"slept": asyncio.run(nap(request, 1))})


def count(_request):
    """An ordinary view that asks the database."""
    return JsonResponse({"products": Product.objects.count()})


class TookTooLong(Exception):
    """What a time limit raises, as packages for it do: no subclass of what others might catch."""


def limited(request):
    """A view with a time limit of `signal.setitimer`, as one finds it in recipes; ``late`` forgets to take it back."""

    def ring(_number, _frame):
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, ring)
    assert signal.getsignal(signal.SIGALRM) is ring
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    if request.GET.get("late"):
        return HttpResponse("early")
    try:
        time.sleep(30)
    except TookTooLong:
        return HttpResponse("took too long")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return HttpResponse("not limited")


def busy(request):
    """Be what runs when a signal comes, most of the time."""
    end = time.monotonic() + float(request.GET["s"])
    while time.monotonic() < end:
        sum(range(20_000))
        time.sleep(0)
    return HttpResponse("done")


def spins(request):
    """Burn the CPU until a test says that it is enough."""
    while is_held(request):
        sum(range(1000))
    return HttpResponse("done")


def files(request):
    """Wait, then open as many files as a view with a template and an upload or two does."""
    time.sleep(float(request.GET["s"]))
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(Path(__file__).open())
    return HttpResponse("opened")


def leave(_request):
    """End a thread as programs end."""
    threading.Thread(target=sys.exit, args=(3,)).start()
    time.sleep(0.01)
    return HttpResponse()


def note(get_response):
    """Middleware: a request with ``?begun=x`` leaves a file of that name, so that a test knows when it runs."""

    def middleware(request):
        if name := request.GET.get("begun"):
            Path("begun", name).touch()
        return get_response(request)

    return middleware


urlpatterns = [
    path("block", block_in_c),
    path("gate", gate),
    path("crash", crash_in_c),
    path("orphan", orphan),
    path("big", big),
    path("hoard", hoard),
    path("account", account),
    path("wait", wait),
    path("run-loop", run_loop),
    path("version", version),
    path("count", count),
    path("limited", limited),
    path("busy", busy),
    path("spins", spins),
    path("leave", leave),
    path("files", files),
]
