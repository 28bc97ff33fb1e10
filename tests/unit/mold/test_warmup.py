"""Warming up: the answers count, and nothing stays open."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.urls import path

from djworker.mold import warmup


class Application:
    """Answers with a status that depends on the path, and remembers whether its answers were closed."""

    def __init__(self) -> None:
        self.environs: list[dict[str, Any]] = []
        self.closed = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        self.environs.append(environ)
        status = {"/missing": "404 Not Found", "/broken": "500 Internal Server Error"}.get(
            environ["PATH_INFO"], "200 OK"
        )
        start_response(status, [])
        return self._body()

    def _body(self) -> Iterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            self.closed += 1


def request(paths: list[str]) -> str:
    """In a process of its own: the hub is destroyed afterwards."""
    code = f"""
from djworker.mold.patches import patching; patching.patch_all()
import importlib.util, sys
from django.conf import settings
settings.configure(ALLOWED_HOSTS=["*", ".shop.example"], DATABASES={{}})
spec = importlib.util.spec_from_file_location("here", {__file__!r})
here = importlib.util.module_from_spec(spec); spec.loader.exec_module(here)
from djworker.mold import warmup
app = here.Application()
try:
    warmup.request_paths(app, {paths!r})
except warmup.WarmUpError as error:
    print("refused:", error)
print([(e["PATH_INFO"], e["QUERY_STRING"], e["HTTP_HOST"], e["REQUEST_METHOD"]) for e in app.environs], app.closed)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_paths_are_requested_and_answers_closed() -> None:
    out = request(["/", "/list?page=2", "/missing"])
    asked = [("/", "", "shop.example", "GET"), ("/list", "page=2", "shop.example", "GET")]
    assert out == f"{[*asked, ('/missing', '', 'shop.example', 'GET')]} 3\n"


def test_a_path_that_fails() -> None:
    out = request(["/", "/broken", "/never"])
    assert "refused: /broken answers 500 Internal Server Error" in out
    assert out.endswith("2\n")


def test_what_is_no_pattern_in_a_list_is_told_with_the_module_around_it() -> None:
    wrong: Any = [5]
    with pytest.raises(ImproperlyConfigured, match=r"urlpatterns of 'shop\.urls' has 5, which is neither"):
        warmup._descend([path("basket/", (wrong, None, None))], "shop.urls")


def test_templates_are_found_by_their_endings(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    for name in ("base.html", "shop/page.html", "shop/mail.txt", "shop/photo.jpeg"):
        (tmp_path / name).touch()
    assert sorted(warmup._template_names([tmp_path])) == ["base.html", "shop/mail.txt", "shop/page.html"]


def test_thousands_of_templates_hold_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "_MOST_TEMPLATES", 3)
    for number in range(10):
        (tmp_path / f"{number}.html").touch()
    assert len(list(warmup._template_names([tmp_path]))) == 3
