"""A headless Chromium, spoken to in its own DevTools protocol over two pipes: no driver, no port."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0  # seconds for an answer or a page; a busy machine needs several
# chrome --remote-debugging-pipe reads commands from 3, writes answers to 4, and ends each message with a NUL.
COMMANDS, ANSWERS = 3, 4
FLAGS = (
    "--headless",
    "--no-sandbox",  # build servers run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--window-size=1200,900",
)


def program() -> str:
    """Where Chromium is. Fails the test where there is none: what a browser shows is part of the promise."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    pytest.fail("no Chromium here: install it (Debian: chromium), or run .ci/packages as root")


class Browser:
    """One browser with one page."""

    def __init__(self, profile: Path) -> None:
        self._profile = profile
        self._number = 0
        self._buffer = b""
        self._session: str | None = None

    def __enter__(self) -> Self:
        their_commands, self._commands = os.pipe()
        self._answers, their_answers = os.pipe()
        # A shell puts the pipes where Chromium looks for them; pass_fds cannot choose numbers.
        places = f'exec "$0" "$@" {COMMANDS}<&{their_commands} {ANSWERS}>&{their_answers}'
        with (self._profile / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/bash", "-c", places, program(), *FLAGS, f"--user-data-dir={self._profile}"],
                pass_fds=(their_commands, their_answers),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(their_commands)
        os.close(their_answers)
        self._open_window()
        return self

    def __exit__(self, *exc: object) -> None:
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._commands)
            os.close(self._answers)

    def _open_window(self, **where: str) -> None:
        target = self.call("Target.createTarget", url="about:blank", **where)["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    @contextmanager
    def new_visitor(self) -> Iterator[Self]:
        """A window that knows no cookie of any other's, as with a new profile."""
        before, self._session = self._session, None
        visitor = self.call("Target.createBrowserContext")["browserContextId"]
        try:
            self._open_window(browserContextId=visitor)
            yield self
        finally:
            self._session = None
            self.call("Target.disposeBrowserContext", browserContextId=visitor)
            self._session = before

    def call(self, method: str, **params: Any) -> Any:
        """Send a command and wait for its answer; events in between are not kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._answers, 1 << 16) if ready else b""
            assert piece, (
                f"Chromium is silent; its log ends with\n{(self._profile / 'chromium.log').read_text()[-2000:]}"
            )
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def run(self, script: str) -> Any:
        """Evaluate JavaScript in the page; the value, as JSON can hold it."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Load a page."""
        self._leave(lambda: self.call("Page.navigate", url=url))

    def click(self, selector: str) -> None:
        """Click what leads to another page, and wait for that."""
        self._leave(lambda: self.run(f"document.querySelector({json.dumps(selector)}).click()"))

    def fill(self, selector: str, value: str) -> None:
        """Write into a field."""
        self.run(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(value)}")

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file to upload."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.run("document.body.innerText"))

    def screenshot(self, path: Path) -> None:
        """Save a picture of the page."""
        path.write_bytes(b64decode(self.call("Page.captureScreenshot")["data"]))

    def _leave(self, action: Callable[[], object]) -> None:
        """Do it, and wait until another document than this one is complete: the mark is gone with the old one."""
        self.run("window.old = true")
        action()
        deadline = time.monotonic() + PATIENCE
        while not self._arrived():
            assert time.monotonic() < deadline, f"still on the same page: {self.text()}"
            time.sleep(0.02)

    def _arrived(self) -> bool:
        try:
            return bool(self.run("!window.old && document.readyState == 'complete'"))
        except AssertionError:  # between two documents there is none to ask
            return False
