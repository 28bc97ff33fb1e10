"""People use browsers: the shop as Chromium sees it, through djworker."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.project import copy_template
from tests.processes.server import Server
from tests.shop.browser import Browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests."""
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A browser that has visited nothing."""
    with chromium.new_visitor() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(seeded: Path) -> Iterator[Server]:
    """The shop, for one visitor after the other."""
    folder = Path(tempfile.mkdtemp(prefix="dj-"))
    server = Server(copy_template(seeded, folder / "shop"), folder)
    try:
        yield server.start()
    finally:
        server.close()
        print(server.story())
        shutil.rmtree(folder)


def test_the_catalogue_is_shown_with_its_style(server: Server, browser: Browser, tmp_path: Path) -> None:
    browser.open(f"{server.url}/")
    browser.screenshot(tmp_path / "catalogue.png")
    assert "Assam Mangalam" in browser.text()
    assert browser.run("document.querySelectorAll('.products article').length") == 12
    assert browser.run("getComputedStyle(document.querySelector('.products')).display") == "grid"
    assert browser.run("document.querySelector('.brand img').naturalWidth") > 0
    browser.click(".products article h2 a")
    assert "in stock" in browser.text()


def test_a_visitor_orders(server: Server, browser: Browser) -> None:
    browser.open(f"{server.url}/product/gyokuro/")
    browser.fill("[name=quantity]", "2")
    browser.click("article.product button")
    assert "Gyokuro is in your basket." in browser.text()
    browser.open(f"{server.url}/checkout/")
    browser.fill("[name=email]", "visitor@shop.example")
    browser.click("main form button")
    assert "Thank you. Order" in browser.text()


def test_a_customer_logs_in_and_uploads(server: Server, browser: Browser, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    (tmp_path / "teapot.bin").write_bytes(data)
    browser.open(f"{server.url}/upload/")
    browser.fill("[name=username]", "demo")
    browser.fill("[name=password]", "demo")
    browser.click("main form button")
    browser.fill("[name=title]", "My teapot")
    browser.choose_file("[name=file]", tmp_path / "teapot.bin")
    browser.click("main form button")
    assert f"My teapot: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}" in browser.text()
    assert browser.run("fetch(document.querySelector('main li a')).then(a => a.blob()).then(b => b.size)") == len(data)
