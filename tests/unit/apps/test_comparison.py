"""Two answers are one where they differ in nothing but what is never twice the same; everything else is told."""

from __future__ import annotations

import pytest

from tests.apps.comparison import Normaliser, compare
from tests.apps.crawler import CLIENTS, Map, Visit
from tests.apps.visitor import Answer, links

TOKEN, OTHER = "aB3" + "x" * 61, "Zk9" + "y" * 61


def page(text: str, status: int = 200) -> Answer:
    return Answer(status, "text/html; charset=utf-8", "", text.encode())


@pytest.mark.parametrize(
    "one, other",
    [
        (f'<input name="csrfmiddlewaretoken" value="{TOKEN}">', f'<input name="csrfmiddlewaretoken" value="{OTHER}">'),
        ('<script nonce="q1w2">', '<script nonce="e3r4">'),
        ("at 2026-11-27T02:41:00.123456+00:00", "at 2026-11-28 03:00"),
        ("Nov. 27, 2026, 2:41 a.m.", "Nov. 27, 2026, 3:02 p.m."),
        ("2\xa0minutes ago", "3\xa0minutes ago"),
        ('"now": 1795747200', '"now": 1795747260.5'),
    ],
)
def test_what_is_never_twice_the_same_is_taken_out(one: str, other: str) -> None:
    text = Normaliser()
    assert text(page(one)) == text(page(other))


@pytest.mark.parametrize(
    "one, other",
    [
        (page("3 books"), page("4 books")),
        (page("a page"), page("a page", 503)),
        (Answer(302, "text/html", "/here/", b""), Answer(302, "text/html", "/there/", b"")),
        (page("e3b0c44298fc1c149afbf4c8996fb924" * 2), page("d3b0c44298fc1c149afbf4c8996fb924" * 2)),
    ],
)
def test_everything_else_is_a_difference(one: Answer, other: Answer) -> None:
    text = Normaliser()
    assert text(one) != text(other)


def test_a_page_that_gunicorn_does_not_repeat_says_nothing() -> None:
    steady, wobbly = Visit(0, 0, "/"), Visit(1, 0, "/recent/")
    first = {steady: page("a"), wobbly: page("one")}
    again = {steady: page("a"), wobbly: page("two")}
    found = compare(first, again, {steady: page("a"), wobbly: page("three")}, Normaliser())
    assert (found.equal, set(found.unstable), dict(found.unlike)) == (1, {"/recent/"}, {})


def test_an_unstable_page_needs_its_status_all_the_same() -> None:
    visit = Visit(0, 0, "/recent/")
    found = compare({visit: page("one")}, {visit: page("two")}, {visit: page("three", 500)}, Normaliser())
    assert list(found.unlike) == [visit]


def test_a_lost_answer_is_a_difference() -> None:
    visit = Visit(0, 0, "/")
    lost = Answer(0, "", "", b"RemoteDisconnected: closed")
    found = compare({visit: page("a")}, {visit: page("a")}, {visit: lost}, Normaliser())
    assert "RemoteDisconnected" in found.unlike[visit]


def test_lines_of_each_side_are_shown_and_what_they_share_is_not() -> None:
    visit = Visit(0, 0, "/")
    found = compare({visit: page("a\nb")}, {visit: page("a\nb")}, {visit: page("a\nc")}, Normaliser())
    assert found.unlike[visit] == "-b\n+c"
    found = compare({visit: page("a\nb")}, {visit: page("a\nb")}, {visit: page("b\na")}, Normaliser())
    assert "another order" in found.unlike[visit]


def test_every_page_is_visited_by_a_client() -> None:
    pages = Map([f"/{number}" for number in range(30)], [f"/in/{number}" for number in range(90)])
    visited = {path for client in range(CLIENTS) for path in pages.visits_of(client)}
    assert visited == {*pages.anonymous, *pages.logged_in}


def test_links_stay_on_the_site() -> None:
    answer = page(
        '<a href="../b/?x=1#top">b</a> <a href="http://other/">o</a> <img src="/i.png"> <a href="mailto:x@y">m</a>'
    )
    assert list(links(answer, "http://localhost:80", "/a/c/")) == ["/a/b/?x=1", "/i.png"]


def test_what_a_browser_encodes_in_a_link_is_encoded() -> None:
    answer = page('<a href="/search/?q=state:<translated and%20x">s</a> <a href="/wörter/">w</a>')
    assert list(links(answer, "http://localhost:80", "/")) == [
        "/search/?q=state:%3Ctranslated%20and%20x",
        "/w%C3%B6rter/",
    ]
