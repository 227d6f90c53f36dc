"""One table in every library, for tests that must not care which one it is."""

import pandas as pd
import pytest


def _pandas(columns):
    return pd.DataFrame(columns)


def _pandas_nullable(columns):
    return pd.DataFrame(columns).convert_dtypes()


def _polars(columns):
    return pytest.importorskip("polars").DataFrame(columns, strict=False)


def _pyarrow(columns):
    return pytest.importorskip("pyarrow").table(columns)


LIBRARIES = {
    "dict": dict,
    "pandas": _pandas,
    "pandas-nullable": _pandas_nullable,
    "polars": _polars,
    "pyarrow": _pyarrow,
}

every_frame = pytest.mark.parametrize("make_frame", LIBRARIES.values(), ids=LIBRARIES)
"""Runs a test with `make_frame` (dict of lists -> table) of every library."""
