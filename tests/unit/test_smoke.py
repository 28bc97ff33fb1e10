"""What a smoke test makes of the server's log."""

from __future__ import annotations

from djworker.smoke.events import place

STACK = """\
  File "/srv/djworker/shop/views.py", line 12, in basket
  File "/srv/venv/lib/python3.13/site-packages/django/db/models/query.py", line 649, in get
"""


def test_the_place_is_the_projects_also_in_a_folder_of_our_name() -> None:
    assert place(STACK) == " (/srv/djworker/shop/views.py:12)"
