"""What the mold changes in code that is not ours. ``docs/explanation/patches.md`` has each change, its reason and its switch.

Lives in the mold, before the project is imported, and is inherited by its workers.
"""
