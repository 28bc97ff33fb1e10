"""No code block of the documentation stands unrun."""

from __future__ import annotations

import json
import tomllib
from collections import Counter

import yaml

from tests.docs.blocks import ROOT, Block, all_blocks, blocks_in, claims, find
from tests.docs.test_settings import is_settings

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


def test_blocks_are_seen_in_lists_and_with_any_fence(tmp_path_factory: object) -> None:
    page = ROOT / "docs" / "howto" / "psycopg.md"
    indented = [block for block in blocks_in(page) if block.text.startswith('"OPTIONS"')]
    assert len(indented) <= 1
    assert len(all_blocks()) > 50


def test_no_page_ends_within_a_block() -> None:
    odd = Counter(block.page for block in all_blocks() if "```" in block.text)
    assert not odd, f"a fence is not closed, or not known, in {odd}"
