"""A 0/1 matrix checked, and the two classes of a target found."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sigmine.exceptions import InputError, InputTypeError
from sigmine.preprocessing import encode_target, validate_binary_matrix
from tests.frames import every_frame

EXPECTED = np.array([[False, True, False], [True, True, False]])
ONES = EXPECTED.astype(int)


class LikeAnArray:
    def __array__(self, dtype=None, copy=None):
        return ONES


# -- validate_binary_matrix -------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [
        EXPECTED,
        ONES,
        ONES.astype(np.uint8),
        ONES.astype(np.float32),
        ONES.astype(">f8"),
        np.asfortranarray(ONES),
        ONES.astype(object),
        ONES.tolist(),
        EXPECTED.tolist(),
        LikeAnArray(),
    ],
)
def test_arrays(X):
    matrix, names = validate_binary_matrix(X)
    np.testing.assert_array_equal(matrix, EXPECTED)
    assert matrix.dtype == np.bool_
    assert names is None


@every_frame
def test_frames(make_frame):
    X = make_frame({"a": [0, 1], "b": [True, True], "c": [0.0, 0.0]})
    matrix, names = validate_binary_matrix(X)
    np.testing.assert_array_equal(matrix, EXPECTED)
    assert names == ("a", "b", "c")


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix])
@pytest.mark.parametrize("dtype", [bool, int, float])
def test_sparse(kind, dtype):
    X = kind(ONES.astype(dtype))
    matrix, names = validate_binary_matrix(X)
    np.testing.assert_array_equal(matrix.toarray(), EXPECTED)
    assert (matrix.format, matrix.dtype, names) == ("csc", np.bool_, None)


def test_sparse_input_is_not_changed_and_zeros_are_not_stored():
    X = sp.csc_array((np.array([0.0, 1.0]), np.array([0, 1]), np.array([0, 2])), shape=(2, 1))
    matrix, _ = validate_binary_matrix(X)
    assert matrix.nnz == 1
    assert matrix.data.all()
    assert X.nnz == 2


@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(1, 8)),
                  elements=st.integers(0, 1)))  # fmt: skip
def test_dense_and_sparse_agree(X):
    dense, _ = validate_binary_matrix(X)
    sparse, _ = validate_binary_matrix(sp.csr_array(X))
    np.testing.assert_array_equal(dense, X.astype(bool))
    np.testing.assert_array_equal(sparse.toarray(), dense)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.array([[0, 1], [0, 2]]), "column 'x1' of X has 1 values .* is 2 in row 1"),
        (np.array([[0, 0.5], [0, 2]]), "column 'x1' of X has 2 values .* is 0.5 in row 0"),
        (np.array([[-1, 0]]), "the first is -1 in row 0"),
        (np.array([[0, np.nan]]), r"column 'x1' of X has 1 missing values \(NaN\)"),
        (np.array([[0, np.inf]]), "the first is inf in row 0"),
        (pd.DataFrame({"a": [0, 1], "b": [1, 3]}), "column 'b' of X has 1 .* is 3 in row 1"),
        (pd.DataFrame({"a": ["u", "v"]}), "column 'a' of X holds .* such as 'u'.*mine_patterns"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), "of kind time, such as '2020-01-01'"),
        (pd.DataFrame([[1, 0]], columns=["a", "a"]), "X has more than one column called 'a'"),
        (np.zeros((0, 4)), r"X has 0 sample\(s\) \(shape=\(0, 4\)\)"),
        (np.zeros((4, 0)), r"0 feature\(s\) \(shape=\(4, 0\)\) while a minimum of 1 is required."),
        (pd.DataFrame(index=range(4)), r"0 feature\(s\) \(shape=\(4, 0\)\)"),
        (pd.DataFrame({"a": []}), r"0 sample\(s\) \(shape=\(0, 1\)\)"),
        (sp.csr_array((0, 4)), r"0 sample\(s\)"),
        (np.zeros(4), r"Expected 2D array, got X of shape \(4,\). Reshape your data"),
        (np.zeros((2, 2, 2)), "Expected 2D array"),
        ([[0, 1], [0]], "rows of different lengths"),
        (np.array([[1j, 0]]), "Complex data not supported"),
        (sp.csr_array(np.array([[1j, 0]])), "Complex data not supported"),
        (sp.csr_array(np.array([[0, 1], [0, 3]])), "the first is 3 in row 1, column 1"),
        (sp.csr_array(np.array([[0, np.nan]])), "the first is nan in row 0, column 1"),
        (sp.coo_array(([1, 1], ([0, 0], [1, 1])), shape=(1, 2)), "is 2 in row 0, column 1.*added"),
    ],
)
def test_matrices_that_are_not_binary(X, message):
    with pytest.raises(InputError, match=message):
        validate_binary_matrix(X)


@pytest.mark.parametrize("X", [None, 3, "text", object()])
def test_things_that_are_no_matrix(X):
    with pytest.raises((InputTypeError, InputError), match=r"expected|Expected"):
        validate_binary_matrix(X)


# -- encode_target ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "cases", "classes"),
    [
        ([True, False], [True, False], ("False", "True")),
        ([0, 1], [False, True], ("0", "1")),
        ([0.0, 1.0], [False, True], ("0", "1")),
        ([2, 1], [True, False], ("1", "2")),
        ([9, 10], [False, True], ("9", "10")),  # sorted as numbers
        ([-1, 1], [False, True], ("-1", "1")),
        (["no", "yes"], [False, True], ("no", "yes")),
        (np.array(["b", "a"], dtype=object), [True, False], ("a", "b")),
        (pd.Categorical(["well", "ill"], ["well", "ill"], ordered=True), [False, True],
         ("well", "ill")),
        (pd.Series([1, 0], dtype="Int8", index=[5, 5]), [True, False], ("0", "1")),
        (np.array([[1], [0]]), [True, False], ("0", "1")),
    ],
)  # fmt: skip
def test_target(values, cases, classes):
    found, names = encode_target(values)
    assert found.tolist() == cases
    assert found.dtype == np.bool_
    assert names == classes


@every_frame
def test_target_from_any_library(make_frame):
    frame = make_frame({"y": ["n", "y", "y"], "z": [0, 1, 1]})
    for name in "yz":
        assert encode_target(frame[name])[0].tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("values", "positive", "classes"),
    [
        ([0, 1], 0, ("1", "0")),
        ([0, 1], "0", ("1", "0")),
        ([0, 1], "1", ("0", "1")),
        ([0.0, 1.0], 1, ("0", "1")),
        ([True, False], "False", ("True", "False")),
        ([True, False], True, ("False", "True")),
        (["case", "control"], "case", ("control", "case")),
    ],
)
def test_positive_class_by_value_or_text(values, positive, classes):
    cases, names = encode_target(values, positive=positive)
    assert names == classes
    assert cases.tolist() == [str(v).removesuffix(".0") == classes[1] for v in values]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "requires y to be passed, but the target died is None"),
        ([], "target 'died' has no rows"),
        ([1, 1, 1], "target 'died' has only one class, '1', in all 3 rows"),
        ([0, 1, 2], r"^Unknown label type: multiclass. Only binary classification is supported."
                    r".*'died' has 3 classes \(0, 1, 2\)"),
        (list("abcdefgh"), r"8 classes \(a, b, c, d, e and 3 more\)"),
        ([0.5, 1.5], "^Unknown label type: continuous.*'died' holds numbers with fractions, such"),
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), "^Unknown label type: continuous.*dates"),
        ([0.0, np.inf], r"^Unknown label type: continuous.*\(inf\)"),
        ([0.0, np.nan, 1.0], r"target 'died' has 1 missing values \(NaN.*in 3 rows"),
        (["a", None, "b"], "1 missing values"),
        ([None, None], "2 missing values"),
        (["a", 1], "target 'died' holds values of mixed types"),
        (np.zeros((3, 2)), r"target 'died' has shape \(3, 2\)"),
    ],
)  # fmt: skip
def test_bad_targets(values, message):
    with pytest.raises(InputError, match=message):
        encode_target(values, name="died")


def test_unknown_positive_class():
    with pytest.raises(InputError, match=r"positive='2' is not a class of .*'0' and '1'"):
        encode_target([0, 1], positive="2")
