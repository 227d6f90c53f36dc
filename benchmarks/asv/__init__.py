"""Suites for airspeed velocity: the same measurements for every commit.

    pip install asv
    asv run --quick --environment existing     # the present tree, every benchmark once
    asv run v1.0..main && asv publish          # a history, in environments of its own

Nothing here imports the other scripts of the folder: a suite runs with the package of another
commit. The measured functions and their data stay as they are, or get a new name.
"""
