"""Agents for monitoring, error trackers and feature flags, with their real libraries and a collector of the test.

``tests/processes/test_agents.py`` has those that are installed for every run. ``python -m tests.agents`` (``make test-agents``)
runs each in an environment of its own, because some of them pull others' versions apart or come with a plugin for pytest.
"""
