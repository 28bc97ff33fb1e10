"""Sphinx configuration of djworker's documentation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")

import django  # noqa: E402

import djworker  # noqa: E402

django.setup()

project = "djworker"
author = "djworker contributors"
copyright = "2026, djworker contributors"  # noqa: A001 - Sphinx's own name for it
release = version = djworker.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "djworker_control",
    "djworker_settings",
    "djworker_django_tests",
    "djworker_packages",
    "djworker_metrics",
    "djworker_modules",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False  # names of settings stand in quotes, and are to be copied
html_theme = "furo"
html_static_path = ["_static"]
exclude_patterns = ["_build", "_ext"]
autodoc_typehints = "none"
