"""Finds the pages of a site, and has many clients visit them."""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.apps.application import Application
from tests.apps.visitor import Answer, Visitor, links

CLIENTS: Final = 30
#: Half of the clients are logged in. Each asks for so many pages, besides those of its login.
VISITS: Final = 10
#: Pages that are looked for: anonymous, logged in.
PAGES: Final = (30, 90)
#: Of paths that differ in numbers or in the query only, so many are visited: a list of products is not the whole site.
_ALIKE: Final = 4
#: Files are the same for everybody; some are visited.
_FILES: Final = 10
_FILE: Final = re.compile(r"\.(?:css|js|png|jpe?g|gif|svg|ico|woff2?|webp|map)(?:\?|$)")


@dataclass(frozen=True, slots=True, order=True)
class Visit:
    """The *number*-th page of a client, which is the same page in each run."""

    client: int
    number: int
    path: str


class LoginFailed(RuntimeError):
    """The application does not let its own user in."""


@dataclass(frozen=True, slots=True)
class Map:
    """The pages that were found."""

    anonymous: Sequence[str]
    logged_in: Sequence[str]

    def visits_of(self, client: int) -> Sequence[str]:
        """Return the pages of one client. Clients begin at different ones; all pages are visited by some."""
        pages = self.logged_in if is_logged_in(client) else self.anonymous
        begin = (client // 2) * len(pages) * 2 // CLIENTS
        return [pages[(begin + step) % len(pages)] for step in range(VISITS)]


def is_logged_in(client: int) -> bool:
    """Whether it is one of those that have logged in."""
    return client % 2 == 1


def explore(application: Application, port: int) -> Map:
    """Follow the links of the site, without a login and with one."""
    found = []
    for logged_in, most in zip((False, True), PAGES, strict=True):
        visitor = _enter(application, port, logged_in=logged_in)
        found.append(_follow(visitor, application, most))
        visitor.close()
    return Map(*found)


def crawl(application: Application, port: int, pages: Map, on_visit: Callable[[], None]) -> dict[Visit, Answer]:
    """Have all clients visit their pages at once; what each was answered. *on_visit* is called before each."""
    answers: dict[Visit, Answer] = {}
    failures: list[Exception] = []

    def go(client: int) -> None:
        try:
            visitor = _enter(application, port, logged_in=is_logged_in(client))
        except LoginFailed as error:
            failures.append(error)
            return
        for number, path in enumerate(pages.visits_of(client)):
            on_visit()
            answers[Visit(client, number, path)] = visitor.get(path)
        visitor.close()

    clients = [threading.Thread(target=go, args=(client,)) for client in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    if failures:
        raise failures[0]
    return answers


def _enter(application: Application, port: int, *, logged_in: bool) -> Visitor:
    visitor = Visitor("localhost", port)
    if logged_in and not visitor.log_in(application.login, application.fields):
        raise LoginFailed(f"{application.name}: {application.login} does not accept {dict(application.fields)}")
    return visitor


def _follow(visitor: Visitor, application: Application, most: int) -> list[str]:
    avoid = [re.compile(pattern) for pattern in (*application.avoid, "log.?out")]
    queue, seen = deque(application.seeds), set(application.seeds)
    found: list[str] = []
    alike: Counter[str] = Counter()
    while queue and len(found) < most:
        path = queue.popleft()
        shape = "a file" if _FILE.search(path) else re.sub(r"\d+|\?.*|[0-9a-f-]{36}", "*", path)
        alike[shape] += 1
        if alike[shape] > (_FILES if shape == "a file" else _ALIKE):
            continue
        answer = visitor.get(path)
        found.append(path)
        for link in links(answer, visitor.origin, path):
            if link not in seen and not any(pattern.search(link) for pattern in avoid):
                seen.add(link)
                queue.append(link)
    return found
