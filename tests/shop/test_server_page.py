"""The page in Django's admin: what it shows and to whom, what it does and for whom, and how it looks, under a strict policy."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from tests.db.servers import PostgresServer
from tests.docs.blocks import Block, find, runs
from tests.processes import procfs
from tests.processes.events import eventually
from tests.processes.http import Answer
from tests.processes.picture import svg
from tests.processes.project import SETTINGS, URLS, Project, copy_template
from tests.processes.server import Server, environment
from tests.processes.terminal import Terminal
from tests.processes.test_control_requests import end
from tests.processes.test_listening import open_to_everybody
from tests.shop.browser import Browser

PAGE = "/admin/djworker_admin/workers/"
DOCUMENTED = "howto/admin-page.md"
#: Where the pictures of the documentation are made; they take minutes, in which there is something to see.
PICTURES = os.environ.get("SCREENSHOTS", "")
MINUTES = 5.0
#: No inline style, no inline script, nothing from elsewhere.
POLICY = "default-src 'self'"
POLICY_MIDDLEWARE = f"""
def policy(get_response):
    def middleware(request):
        response = get_response(request)
        response["Content-Security-Policy"] = "{POLICY}"
        return response
    return middleware
"""
VIEWS = """
import gevent
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import path

def holds(request):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        gevent.sleep(float(request.GET["s"]))
    return HttpResponse("done")

def query(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s), 'a statement'", [float(request.GET["s"])])
    return HttpResponse("done")

urlpatterns += [path("holds/", holds, name="report-monthly"), path("query/", query, name="stock-export")]
"""


def manage(project: Project, *words: str, environ: Mapping[str, str]) -> str:
    """Run ``manage.py`` in the project; what it prints."""
    command = [sys.executable, "manage.py", *words]
    done = subprocess.run(
        command, cwd=project.folder, env=environment(environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The shop with the page, and a policy that forbids what is inline."""
    project = copy_template(template, tmp_path_factory.mktemp("page") / "shop")
    apps = find(DOCUMENTED, "INSTALLED_APPS").text
    project.append(SETTINGS, f"shop_apps = INSTALLED_APPS\n{apps}")
    project.append(SETTINGS, "INSTALLED_APPS = [*dict.fromkeys([*shop_apps, *INSTALLED_APPS[1:]])]")
    project.append(SETTINGS, 'MIDDLEWARE.insert(0, "testproject.policy.policy")')
    project.write("testproject/policy.py", POLICY_MIDDLEWARE)
    project.append(URLS, VIEWS)
    site = find(DOCUMENTED, "site.register").text
    project.append(URLS, f"from django.contrib.admin import AdminSite\nsite = AdminSite('ops')\n{site}")
    project.append(URLS, 'urlpatterns += [path("ops/", site.urls)]')
    project.settings(POOL={"max_size": 4})
    return project


@pytest.fixture(scope="module")
def environ(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    """Which database it has: one of its own."""
    name = f"page_{uuid4().hex[:8]}"
    postgres.create_database(name)
    yield {"DATABASE_URL": postgres.url(name)}
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def sessions(project: Project, environ: dict[str, str]) -> dict[str, str]:
    """Session keys by user."""
    manage(project, "migrate", "--verbosity", "0", environ=environ)
    script = Path(__file__).with_name("page_users.py").read_text()
    found: dict[str, str] = json.loads(manage(project, "shell", "--command", script, environ=environ).splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def shared(project: Project, environ: dict[str, str], sessions: dict[str, str]) -> Iterator[Server]:
    """One tree for all tests."""
    server = Server(project, project.folder)
    server.start(workers=2, timeout=60, probe="off", environ=environ)
    if PICTURES:
        make_history(server)
    yield server
    server.close()


def make_history(server: Server) -> None:
    """Some minutes of a shop's life."""
    end = time.monotonic() + MINUTES * 60
    paths = ["/hello", "/db", "/report", "/holds/?s=0.1", "/nowhere", "/query/?s=0.2", "/debug/sleep?s=0.05"]
    reloads = 1
    while time.monotonic() < end:
        for path in random.sample(paths, 3):
            server.get(path)
        time.sleep(random.random() / (1 + time.monotonic() % 60 / 10))
        if reloads and time.monotonic() > end - MINUTES * 30:
            reloads = 0
            server.reload()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that notes what the policy forbids."""
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.call("Page.enable")
        noting = (
            "window.forbidden = []; document.addEventListener('securitypolicyviolation',"
            " event => forbidden.push(event.violatedDirective + ' ' + event.blockedURI + ' ' + event.sample));"
        )
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=noting)
        yield browser


def get(server: Server, sessions: Mapping[str, str], user: str, path: str = PAGE) -> Answer:
    """Ask as a user."""
    return server.get(path, headers={"Cookie": f"sessionid={sessions[user]}"})


def post(server: Server, sessions: Mapping[str, str], user: str, path: str, *, token: bool = True) -> Answer:
    """Send the form of a page that asks for confirmation; with a token that Django's own form has, which all staff may see."""
    form = get(server, sessions, user, "/admin/password_change/")
    found = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', form.body)
    secret = re.search(r"csrftoken=(\w+)", form.headers["set-cookie"])
    assert found, form
    assert secret, form
    headers = {
        "Cookie": f"sessionid={sessions[user]}; csrftoken={secret[1]}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    body = urlencode({"csrfmiddlewaretoken": found[1].decode()}) if token else ""
    return server.get(path, method="POST", headers=headers, body=body.encode())


def open_page(browser: Browser, server: Server, session: str) -> None:
    """Open it as a user, in a window of a desk."""
    browser.call("Network.setCookie", name="sessionid", value=session, url=server.url)
    look(browser, 1200, 900, "light")
    browser.open(f"{server.url}{PAGE}")


@contextmanager
def in_flight(server: Server, *paths: str) -> Iterator[None]:
    """Requests that last until all was looked at, however slow the browser is: an operator ends them."""
    requests = [server.in_background(path) for path in paths]
    try:
        yield
    finally:
        end(server, *paths)
    assert [request.answer().status for request in requests] == [503] * len(paths)


def look(browser: Browser, width: int, height: int, scheme: str) -> None:
    """Have a window of this size, and a person who likes it light or dark."""
    phone = width < 500
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


# -- what is shown ----------------------------------------------------------------------------------------------------


def wait_for_sample(server: Server, sessions: dict[str, str]) -> None:
    """Wait until there is something to draw: a server that has just begun has no sample for ten seconds."""
    eventually(lambda: b"<figure" in get(server, sessions, "viewer").body, "there is a first sample to be drawn")


def test_it_shows_workers_requests_pools_and_plots_without_javascript(shared: Server, sessions: dict[str, str]) -> None:
    wait_for_sample(shared, sessions)
    with in_flight(shared, "/holds/?s=60"):
        eventually(lambda: b"/holds/" in get(shared, sessions, "viewer").body, "the request is shown")
        answer = get(shared, sessions, "viewer")
    text = answer.body.decode()
    assert answer.status == 200
    assert all(f">{pid}<" in text for pid in shared.ready())
    assert ">report-monthly<" in text
    assert re.search(r'data-label="Database"[^>]*>default<', text)
    assert text.count("<figure") == 6
    assert "style=" not in text.partition('id="content"')[2]


@runs(DOCUMENTED, "INSTALLED_APPS", "site.register")
def test_a_site_of_the_projects_own_has_the_page(
    shared: Server, project: Project, sessions: dict[str, str], blocks: tuple[Block, ...]
) -> None:
    assert all(
        block.text in (project.folder / file).read_text() for block, file in zip(blocks, (SETTINGS, URLS), strict=True)
    )
    page = get(shared, sessions, "operator", "/ops/djworker_admin/workers/")
    assert page.status == 200, page
    links = re.findall(rb'"(/[a-z]+/djworker_admin/workers/[a-z0-9/]*)"', page.body)
    assert b"/ops/djworker_admin/workers/reload/" in links
    assert {link for link in links if not link.startswith(b"/ops/")} == set()
    assert get(shared, sessions, "staff", "/ops/djworker_admin/workers/").status == 403
    done = post(shared, sessions, "operator", "/ops/djworker_admin/workers/recycle/99/")
    assert (done.status, done.headers["location"]) == (302, "/ops/djworker_admin/workers/")


def test_the_index_has_an_entry_for_those_who_may_see_it(shared: Server, sessions: dict[str, str]) -> None:
    assert PAGE.encode() in get(shared, sessions, "viewer", "/admin/").body
    assert PAGE.encode() in get(shared, sessions, "operator", "/admin/").body
    assert PAGE.encode() not in get(shared, sessions, "staff", "/admin/").body


@pytest.mark.parametrize("path", ["", "live/", "reload/", "recycle/", "recycle/0/"])
def test_whoever_has_no_permission_sees_nothing(shared: Server, sessions: dict[str, str], path: str) -> None:
    assert get(shared, sessions, "staff", PAGE + path).status == 403
    assert shared.get(PAGE + path).status == 302, "not logged in"


def test_a_request_that_blocks_another_worker_is_shown_within_the_deadline(
    shared: Server, sessions: dict[str, str]
) -> None:
    with shared.held("/drill/spins") as [blocking]:
        eventually(lambda: b"blocks hub" in get(shared, sessions, "viewer").body, "it is shown")
    assert blocking.answer().status == 200


def test_without_our_server_it_says_so(project: Project, environ: dict[str, str], sessions: dict[str, str]) -> None:
    script = f"""
from django.test import Client
client = Client()
client.cookies["sessionid"] = {sessions["viewer"]!r}
print(client.get({PAGE!r}, headers={{"host": "localhost"}}).content.decode())
print(client.get({PAGE + "live/"!r}, headers={{"host": "localhost"}}).json()["trouble"])
"""
    said = manage(project, "shell", "--command", script, environ=environ)
    assert said.count("This process is no worker of djworker") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_workers_of_another_user_show_the_page_and_reload(
    project: Project, scratch: Path, environ: dict[str, str], sessions: dict[str, str]
) -> None:
    server = Server(copy_template(project.folder, scratch / "shop"), scratch)
    prefix = open_to_everybody(scratch)
    try:
        server.start(workers=1, user="nobody", timeout=60, probe="off", prefix=prefix, environ=environ)
        assert procfs.status(server.worker())["Uid"] != procfs.status(server.pid)["Uid"]
        page = get(server, sessions, "operator").body.decode()
        assert f">{server.worker()}<" in page
        assert post(server, sessions, "operator", PAGE + "reload/").status == 302
        server.wait_for("reload_done")
    finally:
        server.close()


# -- what is done -----------------------------------------------------------------------------------------------------


def test_who_may_only_look_can_do_nothing(shared: Server, sessions: dict[str, str]) -> None:
    assert b"reload/" not in get(shared, sessions, "viewer").body
    for path in ("reload/", "recycle/", "recycle/0/"):
        assert get(shared, sessions, "viewer", PAGE + path).status == 403
        assert post(shared, sessions, "viewer", PAGE + path).status == 403


def test_asking_does_nothing_and_a_form_without_its_token_neither(shared: Server, sessions: dict[str, str]) -> None:
    mark = shared.log.mark()
    for path in ("reload/", "recycle/", "recycle/0/"):
        assert b"No, take me back" in get(shared, sessions, "operator", PAGE + path).body
        assert post(shared, sessions, "operator", PAGE + path, token=False).status == 403
    assert not shared.events("reload_started", since=mark)
    assert not shared.events("recycle_wanted", since=mark)


def test_an_operator_reloads_and_the_log_says_who(shared: Server, sessions: dict[str, str]) -> None:
    mark = shared.log.mark()
    assert post(shared, sessions, "operator", PAGE + "reload/").status == 302
    asked = shared.wait_for("operator_asked", since=mark)
    assert (asked["user"], asked["verb"]) == ("operator", "reload")
    done = shared.wait_for("reload_done", since=mark)
    page = get(shared, sessions, "operator").body.decode()
    assert f"generation {done['generation']} <span" in page


def test_a_slot_that_does_not_exist_is_a_message(shared: Server, sessions: dict[str, str]) -> None:
    done = post(shared, sessions, "operator", PAGE + "recycle/999/")
    assert (done.status, done.headers["location"]) == (302, PAGE)
    message = done.headers["set-cookie"].partition(";")[0]
    page = shared.get(PAGE, headers={"Cookie": f"sessionid={sessions['operator']}; {message}"})
    assert b"Not done: no worker is ready in slot 999" in page.body


# -- in a browser -----------------------------------------------------------------------------------------------------


def test_a_browser_shows_it_live_under_a_strict_policy(
    shared: Server, sessions: dict[str, str], browser: Browser
) -> None:
    wait_for_sample(shared, sessions)
    open_page(browser, shared, sessions["operator"])
    eventually(lambda: browser.run("document.getElementById('djw-live').textContent == 'live'"), "it is live")
    with in_flight(shared, "/query/?s=60"):
        eventually(lambda: "SELECT pg_sleep" in browser.text(), "what begins meanwhile is shown")
    eventually(lambda: "SELECT pg_sleep" not in browser.text(), "what has ended is not")
    assert browser.run("forbidden") == []
    assert browser.run("document.querySelectorAll('#djw-plots svg').length") == 6
    lines = "[...document.querySelectorAll('.djw-line')].map(line => getComputedStyle(line).stroke)"
    assert "rgb(43, 108, 163)" in browser.run(lines)


def test_a_worker_is_replaced_with_two_clicks(shared: Server, sessions: dict[str, str], browser: Browser) -> None:
    shared.settled()  # no worker of the reload before is shown, and gone at the second click
    open_page(browser, shared, sessions["operator"])
    mark = shared.log.mark()
    browser.click(".djw-link a")
    assert "The replacement comes first" in browser.text()
    browser.click(".djw-sure")
    assert "To be replaced, one by one" in browser.text()
    assert shared.wait_for("recycle_wanted", since=mark)["reason"] == "asked for"
    shared.wait_for("worker_gone", since=mark)
    assert browser.run("forbidden") == []


def test_a_browser_without_javascript_shows_everything_and_replaces_a_worker(
    shared: Server, sessions: dict[str, str], browser: Browser
) -> None:
    shared.settled()
    wait_for_sample(shared, sessions)
    with without_javascript(browser):
        with in_flight(shared, "/query/?s=60"):
            eventually(lambda: b"SELECT pg_sleep" in get(shared, sessions, "viewer").body, "the statement runs")
            open_page(browser, shared, sessions["operator"])
            text = browser.text()
        assert all(str(pid) in text for pid in shared.ready())
        assert "SELECT pg_sleep" in text
        assert browser.run("document.getElementById('djw-live').hidden"), "a script of the page has run"
        assert browser.run("document.querySelectorAll('#djw-plots svg').length") == 6
        mark = shared.log.mark()
        browser.click(".djw-link a")
        assert "The replacement comes first" in browser.text()
        browser.click(".djw-sure")
        shared.wait_for("recycle_wanted", since=mark)
        shared.wait_for("worker_gone", since=mark)


@contextmanager
def without_javascript(browser: Browser) -> Iterator[None]:
    """No script of a page is run; the test's own are."""
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        yield
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize(
    "name, width, scheme",
    [
        ("admin-light", 1200, "light"),
        ("admin-dark", 1200, "dark"),
        ("admin-phone", 375, "light"),
        ("admin-phone-dark", 375, "dark"),
    ],
)
def test_it_fits_a_desk_and_a_phone_by_day_and_by_night(
    shared: Server, sessions: dict[str, str], browser: Browser, tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    open_page(browser, shared, sessions["operator"])
    browser.run("document.querySelector('.main.shifted .toggle-nav-sidebar')?.click()")
    look(browser, width, 900, scheme)
    with in_flight(shared, "/holds/?s=60", "/query/?s=60"):
        eventually(
            lambda: "report-monthly" in browser.text() and "SELECT pg_sleep" in browser.text(), "two requests are shown"
        )
        look(browser, width, browser.run("document.documentElement.scrollHeight"), scheme)
        browser.screenshot(tmp_path / f"{name}.png")
        if PICTURES:
            browser.screenshot(Path(PICTURES) / f"{name}.png")
    assert browser.run("document.documentElement.scrollWidth") <= width
    light = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light is (scheme == "light")
    wide = "[...document.querySelectorAll('.djw *')].filter(one => one.getBoundingClientRect().right > innerWidth + 1)"
    assert browser.run(f"{wide}.filter(one => !one.closest('.djw-scroll')).length") == 0


# -- the same on a terminal -------------------------------------------------------------------------------------------


def test_top_shows_the_same_on_a_terminal(shared: Server, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "djworker.control", "top", "--interval", "0.5"]
    wanted = ("report-monthly", "in SQL", "GET /debug/sleep", "default", "q quit")
    paths = ("/holds/?s=60", "/query/?s=60", "/debug/sleep?s=60")
    with in_flight(shared, *paths), Terminal(words, shared.project.folder, size=(96, 24)) as terminal:
        terminal.until(lambda lines: all(word in "\n".join(lines) for word in wanted), "requests and pools")
        drawn = svg(terminal.screen, "djworkerctl top")
        terminal.type("q")
        assert terminal.wait() == 0
    (Path(PICTURES) if PICTURES else tmp_path).joinpath("top.svg").write_text(drawn)
    assert "report-monthly" in drawn
