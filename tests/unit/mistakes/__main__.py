"""Write ``texts.txt`` anew."""

from __future__ import annotations

from tests.unit.mistakes.cases import CASES
from tests.unit.mistakes.making import TEXTS, made, written

TEXTS.write_text(written(made(CASES)))
