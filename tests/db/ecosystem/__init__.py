"""Real packages from PyPI, set up as their documentation says, on a small pool beside noisy neighbours.

Each folder is a project with packages that tolerate each other: `settings`, `models`, and `visits`, what its requests do.
`side` runs a project in a process of its own, on our engine or on Django's; `test_packages` compares the answers.
`packages` lists them all, and docs/reference/packages.md is checked against it.
"""
