"""Covariates to strata: every kind of column, a slow twin, and errors that say what to do."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine.exceptions import InputError, InputTypeError
from sigmine.strata import Strata, encode_strata, informative_strata, require_informative
from tests.frames import every_frame


def naive_strata(columns):
    """Labels in sorted order and the code of every row, for dict name -> list of values."""
    rows = list(zip(*columns.values(), strict=True))
    levels = sorted(set(rows))
    if len(columns) == 1:
        labels = [str(level[0]) for level in levels]
    else:
        labels = [
            ", ".join(f"{name}={value}" for name, value in zip(columns, level, strict=True))
            for level in levels
        ]
    return [levels.index(row) for row in rows], labels


def check(strata, codes, labels, names=None):
    assert strata.codes.tolist() == list(codes)
    assert strata.labels == tuple(labels)
    assert strata.codes.dtype == np.int64
    assert strata.n_levels == len(labels)
    if names is not None:
        assert strata.names == tuple(names)


# -- What comes in ----------------------------------------------------------------------------

TEXTS = ["m", "f", "f", "m"]


@pytest.mark.parametrize(
    "values",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS)[:, None],
        pd.Series(TEXTS, index=[7, 7, 1, 0]),
        pd.Series(TEXTS, dtype="category"),
        pd.Series(TEXTS, dtype=object),
        pd.Categorical(TEXTS),
        pd.Index(TEXTS),
        pd.DataFrame({"sex": TEXTS}),
        {"sex": TEXTS},
        [TEXTS],
        [np.array(TEXTS)],
    ],
    ids=lambda values: type(values).__name__,
)
def test_one_covariate_in_any_container(values):
    check(encode_strata(values, 4), [1, 0, 0, 1], ["f", "m"])


@pytest.mark.parametrize(
    ("values", "codes", "labels"),
    [
        ([10, 9, 10], [1, 0, 1], ["9", "10"]),  # as numbers, not as texts
        ([2.0, 1.0, 2.0], [1, 0, 1], ["1", "2"]),
        (np.array([2, 1, 2], dtype=np.uint8), [1, 0, 1], ["1", "2"]),
        (np.array([2, 1, 2], dtype=">i4"), [1, 0, 1], ["1", "2"]),
        (np.array([2, 1, 2], dtype=np.float16), [1, 0, 1], ["1", "2"]),
        ([True, False, True], [1, 0, 1], ["False", "True"]),
        ([0.5, 17.5, 0.5], [0, 1, 0], ["0.5", "17.5"]),  # few values: a code, not a measurement
        ([2**60, 2**60 + 1, 2**60], [0, 1, 0], [str(2**60), str(2**60 + 1)]),
        ([3, 2.0, 3], [1, 0, 1], ["2", "3"]),
        (["b", "B", "a"], [2, 0, 1], ["B", "a", "b"]),
        (pd.Categorical(["b", "a", "b"], ["b", "a"], ordered=True), [0, 1, 0], ["b", "a"]),
        (pd.Categorical(["b", "a", "b"], ["b", "a"]), [1, 0, 1], ["a", "b"]),
        (pd.Categorical([10, 9, 10], [10, 9]), [1, 0, 1], ["9", "10"]),
        (pd.Categorical([10, "x", 10], [10, "x"]), [0, 1, 0], ["10", "x"]),
        (pd.Categorical(["b", "a", "b"], ["z", "b", "a"], ordered=True), [0, 1, 0], ["b", "a"]),
        (
            pd.to_datetime(["2021-03-01", "2020-01-31", "2021-03-01"]),
            [1, 0, 1],
            ["2020-01-31", "2021-03-01"],
        ),
        (
            [datetime.date(2021, 3, 1), datetime.date(2020, 1, 31), datetime.date(2021, 3, 1)],
            [1, 0, 1],
            ["2020-01-31", "2021-03-01"],
        ),
        (
            pd.DatetimeIndex(
                ["2021-03-01T08:30", "2020-01-31T00:00", "2020-01-31T00:00"], tz="Asia/Tokyo"
            ),
            [1, 0, 0],
            ["2020-01-31", "2021-03-01 08:30"],
        ),
    ],
)
def test_levels_have_the_order_of_their_kind(values, codes, labels):
    check(encode_strata(values, 3), codes, labels, ["strata"])


def test_bands_of_pandas_cut_keep_their_order():
    bands = pd.cut(pd.Series([101, 5, 30], name="age"), [0, 10, 100, 200])
    check(encode_strata(bands, 3), [2, 0, 1], ["(0, 10]", "(10, 100]", "(100, 200]"], ["age"])


@every_frame
def test_several_covariates_from_any_library(make_frame):
    columns = {"sex": ["m", "f", "f", "m", "f"], "ward": [10, 9, 10, 10, 9]}
    codes, labels = naive_strata(columns)
    check(encode_strata(make_frame(columns), 5), codes, labels, columns)


def test_polars_columns():
    pl = pytest.importorskip("polars")
    enum = pl.Series("size", ["small", "large", "small"], dtype=pl.Enum(["small", "huge", "large"]))
    check(encode_strata(enum, 3), [0, 1, 0], ["small", "large"], ["size"])
    check(encode_strata(pl.Series(["b", "a", "b"]).cast(pl.Categorical), 3), [1, 0, 1], ["a", "b"])
    with pytest.raises(InputTypeError, match="LazyFrame"):
        encode_strata(pl.DataFrame({"a": [1]}).lazy(), 1)


def test_pyarrow_columns():
    pa = pytest.importorskip("pyarrow")
    check(encode_strata(pa.chunked_array([["b", "a"], ["b"]]), 3), [1, 0, 1], ["a", "b"])
    check(encode_strata(pa.array([2, 1, 2]), 3), [1, 0, 1], ["1", "2"])
    dictionary = pa.chunked_array([pa.array(["b", "a", "b"]).dictionary_encode()])
    check(encode_strata(dictionary, 3), [1, 0, 1], ["a", "b"])


def test_two_dimensional_array_and_list_of_columns():
    ward, bed = [2, 1, 2], [1, 1, 3]
    labels = ["strata1=1, strata2=1", "strata1=2, strata2=1", "strata1=2, strata2=3"]
    check(encode_strata(np.column_stack([ward, bed]), 3), [1, 0, 2], labels)
    check(encode_strata([ward, np.array(bed)], 3), [1, 0, 2], labels)
    named = [pd.Series(ward, name="ward"), pd.Series(bed, name="bed")]
    assert encode_strata(named, 3).names == ("ward", "bed")
    assert encode_strata(named, 3, names=["w", "b"]).labels[0] == "w=1, b=1"
    assert encode_strata(ward, 3, names="w").names == ("w",)


@pytest.mark.parametrize("nothing", [None, pd.DataFrame(index=range(3)), np.empty((3, 0)), {}])
def test_no_covariate_is_one_stratum(nothing):
    check(encode_strata(nothing, 3), [0, 0, 0], ["all rows"], [])


def test_only_combinations_that_occur_are_strata():
    a = np.arange(100) % 10
    strata = encode_strata({"a": a, "b": a, "c": a}, 100)
    assert strata.n_levels == 10
    assert strata.labels[3] == "a=3, b=3, c=3"


def test_many_wide_covariates_do_not_overflow():
    # 12 columns of 1,000 levels: 10**36 combinations, 1,000 of which occur.
    column = np.repeat(np.arange(1000), 2)
    strata = encode_strata({f"c{i}": column for i in range(12)}, 2000)
    assert strata.codes.tolist() == column.tolist()


@given(st.data())
def test_equals_the_slow_twin_in_any_row_order(data):
    n_rows = data.draw(st.integers(1, 20))
    columns = {
        f"c{j}": data.draw(
            st.lists(
                data.draw(
                    st.sampled_from(
                        [st.integers(-3, 12), st.sampled_from(["a", "b", "C"]), st.booleans()]
                    )
                ),
                min_size=n_rows,
                max_size=n_rows,
            )
        )
        for j in range(data.draw(st.integers(1, 3)))
    }
    codes, labels = naive_strata(columns)
    check(encode_strata(columns, n_rows), codes, labels, columns)
    order = data.draw(st.permutations(range(n_rows)))
    moved = {name: [values[i] for i in order] for name, values in columns.items()}
    check(encode_strata(moved, n_rows), [codes[i] for i in order], labels)


# -- What cannot be used ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        ["a", None, "b"],
        [1.0, float("nan"), 2.0],
        np.array([1, np.nan, 2]),
        pd.Series(["a", None, "b"], dtype="category"),
        pd.Series(["a", None, "b"], dtype="str"),
        pd.Series([1, None, 2], dtype="Int64"),
        pd.Series([True, pd.NA, False], dtype="boolean"),
        pd.to_datetime(["2020-01-01", None, "2020-01-02"]),
        np.ma.array([1, 2, 3], mask=[False, True, False]),
        np.ma.array(["a", "b", "c"], mask=[False, True, False]),
    ],
)
def test_missing_values_are_counted(values):
    with pytest.raises(InputError, match=r"strata has 1 missing values .* in 3 rows.*fillna"):
        encode_strata(values, 3)


@every_frame
def test_missing_values_name_the_column(make_frame):
    frame = make_frame({"sex": ["m", "f", "f"], "ward": [None, 1, None]})
    with pytest.raises(InputError, match="strata column 'ward' has 2 missing values"):
        encode_strata(frame, 3)


def test_all_missing():
    with pytest.raises(InputError, match="3 missing values"):
        encode_strata([None, None, None], 3)


@pytest.mark.parametrize(
    ("values", "n_rows", "message"),
    [
        (["a", "b"], 3, "strata has 2 values but the data have 3 rows"),
        ([], 3, "0 values but the data have 3 rows.*strata=None"),
        ({"a": [1, 2], "b": [1, 2]}, 3, "strata column 'a' has 2 values but the data have 3"),
        ({"a": [1, 2], "b": [1]}, 2, r"columns of different lengths \(1, 2\)"),
        ([["m", 1], ["f", 2], ["f", 3]], 3, "a list of 3 rows of 2 values; expected columns"),
        (np.zeros((2, 2, 2)), 2, r"strata has shape \(2, 2, 2\)"),
        (["a", 1, None], 3, r"mixed types \(1 str, 1 int\).*astype\(str\)"),
        ([1 + 2j, 1j], 2, "Complex data not supported"),
        (pd.to_timedelta([1, 2], unit="D"), 2, r"timedelta.*total_seconds"),
        ([b"a", b"b"], 2, "bytes.*expected booleans, numbers"),
        (pd.period_range("2020", periods=2), 2, "period"),
        (np.array([1.0, np.inf]), 2, "infinite"),
        (np.linspace(0, 1, 200), 200, r"200 different numbers with fractions.*qcut"),
    ],
)
def test_bad_covariates(values, n_rows, message):
    with pytest.raises(InputError, match=message):
        encode_strata(values, n_rows)


def test_repeated_names_and_wrong_number_of_names():
    frame = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])
    with pytest.raises(InputError, match="strata has more than one column called 'a'"):
        encode_strata(frame, 2)
    with pytest.raises(InputError, match=r"2 names \(a, b\) for 1 strata columns"):
        encode_strata([1, 2], 2, names=["a", "b"])


@pytest.mark.parametrize("values", ["sex", 3, {"sex": 1}, object()])
def test_things_that_are_no_columns(values):
    with pytest.raises(InputTypeError, match="value"):
        encode_strata(values, 3)


# -- Informative strata -----------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=40))
def test_informative_strata_count(rows):
    codes = np.array([code for code, _ in rows])
    y = np.array([case for _, case in rows])
    sizes, case_sizes, informative = informative_strata(codes, 6, y)
    for k in range(6):
        inside = [case for code, case in rows if code == k]
        assert sizes[k] == len(inside)
        assert case_sizes[k] == sum(inside)
        assert informative[k] == (len(set(inside)) == 2)
    assert sizes.dtype == case_sizes.dtype == np.int64


def test_require_informative_returns_the_counts():
    strata = encode_strata(["a", "a", "b"], 3)
    sizes, case_sizes, informative = require_informative(strata, np.array([True, False, True]))
    assert (sizes.tolist(), case_sizes.tolist()) == ([2, 1], [1, 1])
    assert informative.tolist() == [True, False]


@pytest.mark.parametrize(
    ("codes", "y", "message"),
    [
        ([0, 0], [1, 1], "1 stratum of size 2, all cases"),
        ([0, 0], [0, 0], "1 stratum of size 2, all controls"),
        ([0, 1], [0, 1], "2 strata, all of size 1. A stratum"),
        ([0, 0, 1, 1], [0, 0, 1, 1], "2 strata, all of size 2, 1 with cases only and 1 with cont"),
        ([0, 0, 1], [0, 0, 1], "2 strata of sizes 1 to 2, 1 with cases only and 1 with controls"),
    ],
)
def test_no_informative_stratum(codes, y, message):
    n_levels = max(codes) + 1
    strata = Strata(np.array(codes), tuple(map(str, range(n_levels))), ())
    with pytest.raises(InputError, match=f"^no informative stratum: {message}"):
        require_informative(strata, np.array(y, dtype=bool))


def test_a_million_levels_end_in_a_clear_error():
    n = 1_000_000
    strata = encode_strata(pd.Series(np.arange(n), name="patient"), n)
    assert strata.n_levels == n
    with pytest.raises(
        InputError,
        match=r"1,000,000 strata, all of size 1 \(covariates: patient\)\..*bin numbers into bands",
    ):
        require_informative(strata, np.arange(n) % 2 == 0)
