"""Views that fail in every way a view can, copied into the shop's project. Imported by the project, not by the tests."""

import ctypes
import os
import signal
import sys
import time

from django.db import connection
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from testproject.version import VERSION


def pid(_request):
    """Who answers, and with which code."""
    return JsonResponse({"pid": os.getpid(), "version": VERSION})


def sleep(request):
    """Wait as a view waits for a service: the hub turns."""
    time.sleep(float(request.GET["s"]))
    return JsonResponse({"pid": os.getpid(), "version": VERSION})


def spin_for_a_while(request):
    """Never return, never let anybody else run."""
    sum(1 for _ in iter(int, 1))
    return HttpResponse(request.path)


def block_in_c(_request):
    """Hold the GIL, so that no thread of Python can look."""
    ctypes.PyDLL(None).sleep(3600)
    return HttpResponse()


def crash_in_c(_request):
    """Segmentation fault."""
    ctypes.string_at(0)
    return HttpResponse()


def exit_at_once(request):
    """Leave without a word."""
    os._exit(int(request.GET.get("code", "1")))


def stop_signal(request):
    """Send this worker a signal."""
    os.kill(os.getpid(), getattr(signal, request.GET["name"]))
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


def echo(request):
    """Length of the body."""
    return JsonResponse({"length": len(request.body)})


def big(request):
    """So many bytes, in pieces."""
    piece = b"x" * 65536
    return StreamingHttpResponse(piece for _ in range(int(request.GET["pieces"])))


def query(_request):
    """Ask the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_migrations")
        return JsonResponse({"count": cursor.fetchone()[0]})


def patched(_request):
    """What the modules that the patch replaces hold in this process, as others see it who imported them."""
    import select
    import socket
    import ssl
    import subprocess
    import threading

    import psycopg.waiting
    import psycopg2.extensions

    return JsonResponse(
        {
            "socket": socket.socket.__module__,
            "ssl": ssl.SSLSocket.__module__,
            "lock": type(threading.Lock()).__module__,
            "local": threading.local.__module__,
            "sleep": time.sleep.__module__,
            "select": select.select.__module__,
            "popen": subprocess.Popen.__module__,
            "psycopg": psycopg.waiting.wait.__name__,
            "psycopg2": getattr(psycopg2.extensions.get_wait_callback(), "__module__", None),
            "saved": sorted(sys.modules["gevent.monkey"].saved),
        }
    )


def account(_request):
    """Whose rights this worker has."""
    mask = os.umask(0)
    os.umask(mask)
    return JsonResponse(
        {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "umask": mask, "home": os.environ.get("HOME")}
    )


urlpatterns = [
    path("pid", pid),
    path("sleep", sleep),
    path("spin", spin_for_a_while),
    path("block", block_in_c),
    path("crash", crash_in_c),
    path("exit", exit_at_once),
    path("signal", stop_signal),
    path("orphan", orphan),
    path("echo", echo),
    path("big", big),
    path("query", query),
    path("patched", patched),
    path("account", account),
]
