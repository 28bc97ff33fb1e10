"""No code block of the documentation stands unrun."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import FENCE, Block, all_blocks, blocks_of, claims, find, name_of, pages
from tests.docs.test_settings import is_settings

HIDDEN = r"^(?:\.\. |\s*[`:]{3}\{)(?:code|code-block|sourcecode|parsed-literal)\b.*|<pre.*"
#: What is data: that it can be read is most of what there is to run.
DATA = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}


def claimed() -> dict[Block, list[str]]:
    """Each block that a test names, and the tests."""
    found: dict[Block, list[str]] = {}
    for page, text, test in claims():
        found.setdefault(find(page, text), []).append(test)
    return found


def test_each_block_is_run_by_a_test() -> None:
    run = claimed()
    unrun = [
        f"{block} ({block.language}): {block.text.strip().splitlines()[0]}"
        for block in all_blocks()
        if block not in run and not is_settings(block) and block.language not in DATA
    ]
    assert not unrun, "no test runs:\n" + "\n".join(unrun)


def test_what_is_data_can_be_read() -> None:
    for block in all_blocks():
        if reader := DATA.get(block.language):
            assert reader(block.text), block


def test_blocks_are_seen_in_lists_and_with_any_fence() -> None:
    page = (
        "* a list\n\n  ```sh\n  one\n  ```\n\n~~~python\ntwo\n~~~\n\n````\n```\nthree\n````\n\n```{note}\nfour\n```\n"
    )
    assert [(block.language, block.text) for block in blocks_of("page", page)] == [
        ("sh", "one\n"),
        ("python", "two\n"),
        ("", "```\nthree\n"),
    ]
    assert len(all_blocks()) > 50


@pytest.mark.parametrize("path", pages(), ids=name_of)
def test_no_block_escapes_in_another_form(path: Path) -> None:
    """A directive of Sphinx for code, HTML, or four spaces: none of these would be seen."""
    text = FENCE.sub("", path.read_text())
    assert re.findall(HIDDEN, path.read_text(), re.MULTILINE) == []
    assert re.findall(r"\n\n {4,}\S.*", text) == [], "begin a block with a fence"


def test_no_page_ends_within_a_block() -> None:
    odd = Counter(block.page for block in all_blocks() if "```" in block.text)
    assert not odd, f"a fence is not closed, or not known, in {odd}"
