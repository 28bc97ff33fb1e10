"""A project of four files that says of itself how it was loaded, and gunicorn beside which it is served."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.processes.http import Address, request
from tests.processes.project import Project
from tests.processes.server import environment

#: What the project is made of, where an input does not replace it.
FILES: Mapping[str, str] = {
    "shop/__init__.py": "",
    "shop/base.py": """
import os
SECRET_KEY = os.environ.get("SITE_KEY", "x")
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
""",
    "shop/dev.py": "from shop.base import *\nDEBUG = True\n",
    "shop/prod.py": "from shop.base import *\nDEBUG = False\n",
    "shop/urls.py": """
import os, sys
from django.conf import settings
from django.http import JsonResponse
from django.urls import path

def told(request):
    return JsonResponse({
        "settings": getattr(settings, "SETTINGS_MODULE", None) or os.environ.get("DJANGO_SETTINGS_MODULE"),
        "debug": settings.DEBUG,
        "key": settings.SECRET_KEY,
        "site": {name: value for name, value in sorted(os.environ.items()) if name.startswith("SITE_")},
        "wrapped": request.META.get("shop.wrapped"),
        "cwd": os.getcwd(),
    })

urlpatterns = [path("", told)]
""",
    "shop/wsgi.py": """
import os
from django.core.wsgi import get_wsgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.prod")
application = get_wsgi_application()
""",
    "manage.py": """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.dev")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
}


def make(folder: Path, files: Mapping[str, str] | None = None) -> Project:
    """Write it, with other or more files where an input has them."""
    for name, text in {**FILES, **(files or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Project(folder)


@contextmanager
def gunicorn(words: Sequence[str], folder: Path, environ: Mapping[str, str], output: Path) -> Iterator[Address]:
    """gunicorn with gevent's workers on a socket that listens already, so that a client can ask at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener, output.open("wb") as log:
        fd = listener.fileno()
        server = ["-m", "gunicorn", "-k", "gevent", "--no-control-socket", "-b", f"fd://{fd}"]
        process = subprocess.Popen(
            [sys.executable, *server, *words],
            cwd=folder,
            env=environment(environ),
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            stdout=log,
            stderr=log,
        )
        try:
            yield Address(f"127.0.0.1:{listener.getsockname()[1]}")
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its graceful end takes a second, and is not what is tested
            process.wait(20)


def answer(address: Address) -> dict[str, Any]:
    """What the project says of itself."""
    found = request(address, "/")
    assert found.status == 200, found.body
    told: dict[str, Any] = found.json()
    return told
