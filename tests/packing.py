"""What tests of packing share: problems compared array by array, and the peak of memory."""

from __future__ import annotations

import tracemalloc

import numpy as np


def assert_same(one, two):
    """Compare two problems: names, notes, and the arrays with their layout."""
    for name in ("item_names", "stratum_labels", "strata_names", "strata_summary", "target_name",
                 "class_names", "n_rows", "dropped", "notes"):  # fmt: skip
        assert getattr(one, name) == getattr(two, name), name
    for name, a, b in zip(one.table._fields, one.table, two.table, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a.dtype == b.dtype
        assert a.flags.c_contiguous
        assert a.flags.writeable


def peak_of(function):
    """Call a function; return what it returns, and the most memory that it had at one time."""
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
