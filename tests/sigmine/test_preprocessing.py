"""Tables to items: what the names say is what the rows have, for every library and policy."""

import datetime
import re
import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine import preprocessing
from sigmine._frames import as_text, factorize, read_column
from sigmine.exceptions import DataWarning, InputError, InputTypeError
from sigmine.preprocessing import make_items
from tests.frames import every_frame


def has(items, name):
    """Rows that have an item, as a list of bool."""
    matrix = items.matrix.toarray() if hasattr(items.matrix, "toarray") else items.matrix
    return matrix[:, items.names.index(name)].tolist()


def true_by_name(name, column, value):
    """Evaluate "a<column<=b", "column>a", "not ..." exactly; the slow twin of the binning."""
    if name.startswith("not "):
        return not true_by_name(name[4:], column, value)
    number = r"(-?[0-9.]+(?:e-?\d+)?)"
    low = re.fullmatch(rf"(?:{number}<)?{column}(?:<={number})?", name)
    above = re.fullmatch(rf"{column}>{number}", name)
    if above:
        return Fraction(str(value)) > Fraction(above[1])
    lower, upper = low.groups()
    return (lower is None or Fraction(str(value)) > Fraction(lower)) and (
        upper is None or Fraction(str(value)) <= Fraction(upper)
    )


# -- One kind of column after the other -------------------------------------------------------


@every_frame
def test_items_of_every_kind_from_any_library(make_frame):
    items = make_items(
        make_frame(
            {
                "smoker": [True, False, True, False, False, True],
                "treated": [0, 1, 1, 0, 0, 1],
                "ill": [0.0, 1.0, 1.0, 1.0, 1.0, 1.0],
                "colour": ["red", "blue", "red", "green", "red", "red"],
                "ward": [2, 1, 1, 2, 2, 2],
                "age": [20, 31, 35, 36, 50, 71],
            }
        ),
        bins=2,
        edges={"age": [35, 50]},
    )
    assert items.names == (
        "smoker", "treated", "ill", "colour=blue", "colour=green", "colour=red", "ward=1", "ward=2",
        "age<=35", "35<age<=50", "age>50",
    )  # fmt: skip
    assert items.sources[3:9] == ("colour", "colour", "colour", "ward", "ward", "age")
    assert has(items, "smoker") == [True, False, True, False, False, True]
    assert has(items, "treated") == [False, True, True, False, False, True]
    assert has(items, "ill") == [False, True, True, True, True, True]
    assert has(items, "colour=red") == [True, False, True, False, True, True]
    assert has(items, "ward=1") == [False, True, True, False, False, False]
    assert has(items, "age<=35") == [True, True, True, False, False, False]
    assert has(items, "35<age<=50") == [False, False, False, True, True, False]
    assert items.matrix.dtype == np.bool_
    assert items.rows_kept.all()
    assert items.dropped == ()
    assert items.notes == ("age was cut at 35, 50 (as given).",)


@every_frame
def test_missing_values_of_any_library(make_frame):
    frame = make_frame(
        {
            "smoker": [True, None, False, True],
            "colour": ["red", "blue", None, "red"],
            "weight": [1.5, None, 3.5, 2.5],
            "visits": [7, 9, None, 8],
        }
    )
    with pytest.raises(
        InputError,
        match=r"in 4 of 4 columns: smoker \(1\), colour \(1\), weight \(1\), visits \(1\).*"
        '"absent".*"item".*"drop"',
    ):
        make_items(frame)
    items = make_items(frame, missing="item")
    assert has(items, "smoker") == [True, False, False, True]
    assert has(items, "smoker is missing") == [False, True, False, False]
    assert has(items, "colour=red") == [True, False, False, True]
    assert has(items, "colour is missing") == [False, False, True, False]
    assert has(items, "weight=1.5") == [True, False, False, False]
    assert has(items, "visits=9") == [False, True, False, False]
    assert has(items, "visits is missing") == [False, False, True, False]
    absent = make_items(frame, missing="absent", negate=True)
    assert has(absent, "not smoker") == [False, False, True, False]
    assert has(absent, "weight!=1.5") == [False, False, True, True]
    assert not any("missing" in name for name in absent.names)
    assert absent.notes == (
        "A row with a missing value has none of the column's items: smoker (1), colour (1), "
        "weight (1), visits (1).",
    )
    dropped = make_items(frame, missing="drop")
    assert dropped.rows_kept.tolist() == [True, False, False, True]
    assert dropped.names == ("weight=1.5", "weight=2.5", "visits=7", "visits=8")
    assert dropped.notes[0].startswith("2 of 4 rows were left out because of missing values:")
    assert {"smoker", "colour=red"} <= {item.name for item in dropped.dropped}


@pytest.mark.parametrize("missing", ["absent", "item"])
def test_a_column_without_any_value_is_left_out(missing):
    items = make_items({"a": [True, False], "b": [None, None], "c": [np.nan] * 2}, missing=missing)
    assert items.names == ("a",)
    assert [(item.name, item.reason) for item in items.dropped] == [
        ("b", "no value in any row"),
        ("c", "no value in any row"),
    ]


def test_dropping_every_row_is_an_error():
    with pytest.raises(InputError, match=r"no row .* is left of 2: a \(1\), b \(1\)"):
        make_items({"a": [1, None], "b": [None, 1]}, missing="drop")


def test_excluded_columns_are_not_looked_at():
    frame = pd.DataFrame({"a": [0, 1], "bad": [1, "x"], "hole": [None, 1.0]})
    assert make_items(frame, exclude=["bad", "hole"]).names == ("a",)


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ([0, 1, 1], ("x",)),
        ([False, True, None], ("x",)),
        ([1, 2, 2], ("x=1", "x=2")),
        (["yes", "no", "no"], ("x=no", "x=yes")),
        ([0.5, 2.0, 0.5], ("x=0.5", "x=2")),
        (pd.Categorical(["lo", "hi", "lo"], ["lo", "hi"], ordered=True), ("x=lo", "x=hi")),
        (pd.Categorical([1, 0, 1]), ("x=0", "x=1")),  # declared a category: both levels
        (pd.arrays.SparseArray([True, False, True]), ("x",)),
        (pd.arrays.SparseArray([1, 0, 0]), ("x",)),
        (np.array([1, 0, 0], dtype=np.float16), ("x",)),
        ([datetime.date(2020, 1, 31), datetime.date(2020, 2, 1), None],
         ("x=2020-01-31", "x=2020-02-01")),
        ([10**30, 10**30, 5], ("x=5", "x=1e+30")),
    ],
)  # fmt: skip
def test_few_values_become_levels(column, names):
    assert make_items(pd.DataFrame({"x": column}), missing="absent").names == names


def test_rarer_types_of_polars_and_numpy():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {
            "price": pl.Series(["1.50", None, "2.00"]).cast(pl.Decimal(10, 2)),
            "day": [datetime.date(2020, 1, 31), None, datetime.date(2020, 2, 1)],
            "object": pl.Series(["u", None, "v"], dtype=pl.Object),
            "nothing": [None, None, None],
            "single": pl.Series([0.1, None, 0.2], dtype=pl.Float32),
        }
    )
    items = make_items(frame, missing="absent")
    assert items.names == (
        "price=1.5", "price=2", "day=2020-01-31", "day=2020-02-01", "object=u", "object=v",
        "single=0.1", "single=0.2",
    )  # fmt: skip
    assert [item.name for item in items.dropped] == ["nothing"]
    days = np.array(["2020-01-31", "NaT", "2020-02-01"], dtype="datetime64[D]")
    assert make_items({"day": days}, missing="absent").names == items.names[2:4]
    with pytest.raises(InputError, match="column 'a' is of type List"):
        make_items(pl.DataFrame({"a": [[1], [2]]}))


def test_negated_items():
    frame = {"smoker": [1, 0, 0], "colour": ["r", "g", "b"], "sex": ["f", "m", "f"]}
    items = make_items(frame, negate=True)
    assert items.names == (
        "smoker", "not smoker", "colour=b", "colour=g", "colour=r", "colour!=b", "colour!=g",
        "colour!=r", "sex=f", "sex=m",
    )  # fmt: skip
    assert has(items, "not smoker") == [False, True, True]
    assert has(items, "colour!=g") == [True, False, True]


def test_constant_items_are_left_out_with_a_reason():
    items = make_items({"a": [1, 1, 1], "b": [0, 0, 0], "c": ["x", "x", "x"], "d": [0, 1, 1]})
    assert items.names == ("d",)
    assert [(item.name, item.reason) for item in items.dropped] == [
        ("a", "constant: present in every row"),
        ("b", "constant: absent from every row"),
        ("c=x", "constant: present in every row"),
    ]
    with pytest.raises(InputError, match=r"no items are left.*a \(constant: present in every row"):
        make_items({"a": [1, 1, 1]})


def test_identifiers_are_left_out_with_a_warning():
    frame = {"id": [f"p{i}" for i in range(60)], "a": [0, 1] * 30}
    with pytest.warns(DataWarning, match="more than 50 levels: id. Raise max_levels") as caught:
        items = make_items(frame)
    assert caught[0].filename == __file__
    assert items.names == ("a",)
    assert items.dropped[0].name == "id"
    assert items.dropped[0].reason == "60 levels, more than max_levels=50"
    assert len(make_items(frame, max_levels=60).names) == 61


def test_arrays_and_their_columns():
    items = make_items(np.array([[0, 5], [1, 6], [1, 5]]))
    assert items.names == ("x0", "x1=5", "x1=6")


def test_large_matrices_are_sparse(monkeypatch):
    frame = {"a": [0, 1, None, 1], "c": list("xyxz"), "n": [4, 3, 2, 1]}
    dense = make_items(frame, missing="item", negate=True)
    monkeypatch.setattr(preprocessing, "_DENSE_CELLS", 0)
    sparse = make_items(frame, missing="item", negate=True)
    assert sparse.matrix.format == "csc"
    assert sparse.matrix.dtype == np.bool_
    np.testing.assert_array_equal(sparse.matrix.toarray(), dense.matrix)
    assert sparse.names == dense.names


# -- Bins -------------------------------------------------------------------------------------


def test_quantile_bins_of_distinct_values_are_balanced():
    items = make_items({"x": np.random.default_rng(0).permutation(103)}, bins=4)
    assert items.names == ("x<=25", "25<x<=51", "51<x<=77", "x>77")
    assert items.matrix.sum(axis=0).tolist() == [26, 26, 26, 25]
    assert items.notes == ("x was cut at 25, 51, 77 (quantiles).",)


@pytest.mark.parametrize(
    ("values", "bins", "names"),
    [
        # 60 % zeros: two quantiles fall on zero and become one edge.
        ([0] * 12 + list(range(1, 9)), 4, ("x<=0", "0<x<=3", "x>3")),
        # 80 % at the maximum: a bin of its own, and the rest below it.
        (list(range(5)) + [9] * 20, 4, ("x<=4", "x>4")),
        ([0.12345, 0.2, 0.30001, 0.4, 0.5, 0.600001], 2, ("x<=0.31", "x>0.31")),
        ([0.301234, 0.31, 0.301235, 0.4, 0.2, 0.123], 2, ("x<=0.301234", "x>0.301234")),
        ([-5.5, -4.123456, -3.2, -2.1, -1.0, 0.0], 3, ("x<=-4", "-4<x<=-2.1", "x>-2.1")),
        ([1e20, 2e20, 3e20, 4e20, 5e20, 6e20], 2, ("x<=3e20", "x>3e20")),
        ([1e-9, 2e-9, 3e-9, 4e-9, 5e-9, 6e-9], 2, ("x<=3e-9", "x>3e-9")),
        ([-2.0, -1.0, -0.0, 1.0, 2.0], 2, ("x<=0", "x>0")),
        ([2**62 + i for i in range(6)], 2, (f"x<={2**62 + 2}", f"x>{2**62 + 2}")),
        (np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32), 2, ("x<=0.2", "x>0.2")),
    ],
)  # fmt: skip
def test_quantile_edges(values, bins, names):
    assert make_items({"x": values}, bins=bins).names == names


@pytest.mark.parametrize(
    ("values", "bins", "names"),
    [
        ([*range(11), 100], 4, ("x<=25", "x>75")),
        (np.linspace(0, 1, 50), 4, ("x<=0.25", "0.25<x<=0.5", "0.5<x<=0.75", "x>0.75")),
        (np.linspace(0, 1, 50), 3, ("x<=0.33", "0.33<x<=0.66", "x>0.66")),
        ([-1e308, -5e307, 0.0, 5e307, 1e308], 2, ("x<=0", "x>0")),
        ([1, 2, 3, 4], 2, ("x<=2", "x>2")),
    ],
)
def test_equal_widths(values, bins, names):
    items = make_items({"x": values}, bins=bins, bin_method="width")
    assert items.names == names
    assert "(equal widths)" in items.notes[0]


def test_empty_bins_of_equal_width_are_noted():
    items = make_items({"x": [*range(11), 100]}, bin_method="width")
    assert [item.name for item in items.dropped] == ["25<x<=50", "50<x<=75"]


@pytest.mark.parametrize("method", ["quantile", "width"])
def test_dates_are_cut(method):
    days = pd.date_range("2020-01-01", periods=8)
    items = make_items({"day": days}, bins=2, bin_method=method)
    assert items.names == ("day<=2020-01-04", "day>2020-01-04")
    assert has(items, "day<=2020-01-04") == [True] * 4 + [False] * 4
    hours = make_items({"t": days + pd.Timedelta(hours=6)}, bins=2)
    assert hours.names == ("t<=2020-01-04 06:00", "t>2020-01-04 06:00")
    given_dates = make_items({"day": days}, edges={"day": ["2020-01-02"]})
    assert has(given_dates, "day<=2020-01-02") == [True] * 2 + [False] * 6


def test_given_edges_cut_even_few_values():
    items = make_items({"x": [0, 1, 1, 0]}, edges={"x": [0.5]}, negate=True)
    assert items.names == ("x<=0.5", "x>0.5")


def test_given_edges_are_in_the_type_of_the_column():
    tenths = np.array([0.1, 0.2, 0.3, 0.4, 0.5], dtype=np.float32)
    items = make_items({"x": tenths}, edges={"x": [0.1, 0.3]})
    assert items.names == ("x<=0.1", "0.1<x<=0.3", "x>0.3")
    assert items.matrix.sum(axis=0).tolist() == [1, 2, 2]


numbers = st.one_of(
    st.lists(st.integers(-40, 40), min_size=1, max_size=40),
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=40),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=15),
    st.lists(st.sampled_from([0.1, 0.2, 0.30000000000000004, 1e-300, -5.0]), min_size=1),
)


@given(numbers, st.integers(2, 6), st.sampled_from(["quantile", "width"]))
def test_names_of_bins_say_what_the_rows_have(values, bins, method):
    if len(set(values)) <= bins + 1:
        values = [*values, *(float(100 + i) for i in range(bins + 2))]
    items = make_items({"x": values}, bins=bins, bin_method=method, negate=True)
    for name in items.names:
        assert has(items, name) == [true_by_name(name, "x", value) for value in values], name
    bin_names = [name for name in items.names if not name.startswith("not ")][
        : bins if bins > 2 else 2
    ]
    assert len(bin_names) <= bins


@given(numbers, st.integers(2, 6))
def test_quantile_bins_are_those_of_the_definition(values, bins):
    if len(set(values)) <= bins + 1:
        values = [*values, *(float(100 + i) for i in range(bins + 2))]
    ordered, n = sorted(values), len(values)
    edges = {next(v for v in ordered if sum(w <= v for w in values) * bins >= j * n)
             for j in range(1, bins)}  # fmt: skip
    if max(values) in edges:
        edges = edges - {max(values)} | {max(v for v in values if v < max(values))}
    expected = [sum(v > edge for edge in edges) for v in values]
    items = make_items({"x": values}, bins=bins)
    assert len(items.names) == len(edges) + 1
    assert items.matrix.argmax(axis=1).tolist() == expected
    assert (items.matrix.sum(axis=1) == 1).all()


@given(st.data())
def test_the_order_of_rows_does_not_matter(data):
    n = data.draw(st.integers(3, 15))
    column = {
        "n": st.integers(0, 30),
        "c": st.sampled_from(["a", "b", "c", None]),
        "b": st.sampled_from([True, False, None]),
    }
    frame = {
        name: data.draw(st.lists(values, min_size=n, max_size=n)) for name, values in column.items()
    }
    frame["n"][0], frame["n"][1] = 0, 1
    order = data.draw(st.permutations(range(n)))
    moved = {name: [values[i] for i in order] for name, values in frame.items()}
    items = make_items(frame, missing="item", bins=2)
    again = make_items(moved, missing="item", bins=2)
    assert again.names == items.names
    np.testing.assert_array_equal(again.matrix, items.matrix[list(order)])


# -- What cannot be used ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), {}, "more than one column called 'a'"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), {}, "more than one column called '1'"),
        ({}, {}, "no columns to make items from"),
        ({"a": [1]}, {"exclude": ["a"]}, "no columns to make items from"),
        ({"a": []}, {}, "no rows"),
        ({"a": [1, 2], "b": [1]}, {}, r"columns of different lengths \(1, 2\)"),
        ({"a": [1, "x"]}, {}, "column 'a' holds values of mixed types"),
        ({"a": [1.0, np.inf]}, {}, r"column 'a' has 1 infinite \(inf\) values"),
        ({"a": pd.to_timedelta([1, 2], unit="D")}, {}, "column 'a'.*total_seconds"),
        ({"a": [[1], [2]]}, {}, "column 'a' is a list of lists"),
        ({"a": [(1, 2), (2, 3)]}, {}, "column 'a' is a list of lists"),
        ({"a": [np.zeros(2), np.zeros(3)]}, {}, "column 'a' is a list of lists"),
        (np.zeros(3), {}, r"shape \(3,\); expected two dimensions"),
        ({"a": [0, 1]}, {"exclude": ["b"]}, "exclude names columns .* not have: b; its .* are a"),
        ({"a": [0, 1]}, {"edges": {"b": [1]}}, "edges names columns .* not have: b"),
        ({"a": ["x", "y"]}, {"edges": {"a": [1]}}, "edges were given for column 'a'.*category"),
        ({"a": [0, 1]}, {"edges": {"a": []}}, r"edges=\[\] of column 'a' cannot be used"),
        ({"a": [0, 1]}, {"edges": {"a": [2, 1]}}, "ascending"),
        ({"a": [0, 1]}, {"edges": {"a": [1, np.nan]}}, "finite numbers"),
        ({"a": [0, 1]}, {"edges": {"a": ["x"]}}, "finite numbers"),
        ({"a": [0, 1]}, {"bins": 1}, "bins=1 must be at least 2"),
        ({"a": [0, 1]}, {"max_levels": 0}, "max_levels=0"),
        ({"a": [0, 1]}, {"bin_method": "uniform"}, "bin_method='uniform'.*quantile, width"),
        ({"a": [0, 1]}, {"missing": "fill"}, "missing='fill'.*error, absent, item, drop"),
        ({"a=x": [0, 1], "a": ["x", "y"]}, {}, "items of one name: a=x"),
        ({"a": ["x", "y", None]}, {}, r"missing values .*1 of 1 columns: a \(1\)"),
    ],
)  # fmt: skip
def test_bad_tables(frame, options, message):
    with pytest.raises(InputError, match=message):
        make_items(frame, **options)


def test_bad_edges_of_dates():
    with pytest.raises(InputError, match="one or more dates"):
        make_items({"a": pd.date_range("2020", periods=3)}, edges={"a": ["x"]})


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        ("table.csv", {}),
        ([{"a": 1}], {}),
        (pd.Series([1, 2]), {}),
        ({"a": 1}, {}),
        ({"a": [0, 1]}, {"exclude": "a"}),
        ({"a": [0, 1]}, {"bins": 2.5}),
        ({"a": [0, 1]}, {"bins": True}),
    ],
)
def test_wrong_types(frame, options):
    with pytest.raises(InputTypeError):
        make_items(frame, **options)


def test_clean_tables_give_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_items(pd.DataFrame({"a": [0, 1], "b": ["x", "y"], "c": pd.Categorical(["x", "y"])}))


@pytest.mark.parametrize(
    "values",
    [
        np.array([127, -128, 0, 127, -128], dtype=np.int8),
        np.array([2**63 + 5, 2**63 + 5, 2**63], dtype=np.uint64),
        np.array([-(2**62), 2**62, 0]),
        np.array([7, 3, 3, 10**12]),
        np.arange(50)[::-1] % 9,
        np.array([True, False, True]),
        np.array([0.5, -0.0, 0.0, 2.0, -1.5]),
        np.array(["2020-02-01", "1999-12-31", "2020-02-01"], dtype="datetime64[D]"),
    ],
    ids=lambda values: f"{values.dtype}-{len(values)}",
)
def test_levels_are_those_of_pandas(values):
    codes, labels = factorize(read_column(values, "v"))
    expected, levels = pd.factorize(values, sort=True)
    np.testing.assert_array_equal(codes, expected)
    assert codes.dtype == np.int64
    assert labels == tuple(as_text(level) for level in levels)
