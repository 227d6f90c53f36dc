"""Bad input: a clear error before any work; nothing testable: a result; Ctrl-C: a quick end.

An error says what was found, what was expected and what to do. Every case goes through the doors
where it can happen: a table (`mine_patterns`), a matrix (`mine_matrix`) and the estimator (`FACS`).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import warnings

import numba
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sigmine import FACS, mine_matrix, mine_patterns, mining
from sigmine.exceptions import DataWarning, InputError, InputTypeError

N = 40
RNG = np.random.default_rng(0)
X = RNG.integers(0, 2, (N, 4))
Y = RNG.integers(0, 2, N)
Z = RNG.integers(0, 3, N)


def with_value(array, place, value):
    """Return a copy with one other value, as floats or objects."""
    changed = np.array(array, dtype=float if isinstance(value, float) else object)
    changed[place] = value
    return changed


def through_table(X, y, strata=None, **settings):
    columns = {f"x{j}": column for j, column in enumerate(np.transpose(X))}
    columns["y"] = y
    if strata is None:
        return mine_patterns(columns, target="y", **settings)
    return mine_patterns(columns | {"z": strata}, target="y", strata="z", **settings)


def through_estimator(X, y, strata=None, **settings):
    return FACS(**settings).fit(X, y, strata=strata)


DOORS = {"table": through_table, "matrix": mine_matrix, "FACS": through_estimator}
ARRAYS = ("matrix", "FACS")
UNEQUAL = ["columns of different lengths", "give every column one value a row"]
NO_STRATUM = ["at least one case and at least one control", "Use a covariate with fewer levels"]


def case(name, words, error=InputError, doors=tuple(DOORS), **arguments):
    """One bad input and the words of the message: found, expected, what to do."""
    given = {"X": X, "y": Y} | arguments
    return [pytest.param(DOORS[door], given, error, words, id=f"{name}-{door}") for door in doors]


CASES = [
    # No rows, no columns.
    *case("no rows", ["the table has no rows", "expected cases and controls", "Check the file"],
          X=X[:0], y=Y[:0], doors=["table"]),
    *case("no rows", [r"X has 0 sample", r"shape=\(0, 4\)", "a minimum of 1 is required"],
          X=X[:0], y=Y[:0], doors=ARRAYS),
    *case("no columns", ["no column is left to make items from", "the table has y", "Add columns"],
          X=X[:, :0], doors=["table"]),
    *case("no columns", [r"X has 0 feature", r"shape=\(40, 0\)", "a minimum of 1 is required"],
          X=X[:, :0], doors=ARRAYS),
    *case("one dimension", [r"X of shape \(40,\)", "Expected 2D array", "Reshape your data"],
          X=X[:, 0], doors=ARRAYS),
    # Classes.
    *case("one class", ["'y' has only one class, '1', in all 40 rows", "expected two classes",
                        "Check the column and any filter"], y=np.ones(N, dtype=int)),
    *case("three classes", [r"'y' has 3 classes \(0, 1, 2\)", "expected two",
                            "Choose one class as the case"], y=np.arange(N) % 3),
    *case("measured outcome", ["'y' holds numbers with fractions, such as 0", "expected two",
                               "Cut it in two"], y=RNG.random(N)),
    *case("no outcome", ["target y is None", "requires y", "give one class a row"],
          y=None, doors=ARRAYS),
    *case("unknown case", ["positive='maybe' is not a class of target 'y'",
                           "its classes are '0' and '1'", "Choose one of these"],
          positive="maybe", doors=["table", "matrix"]),
    # Lengths.
    *case("short y", [r"\(37, 40\)", *UNEQUAL], y=Y[:-3], doors=["table"]),
    *case("short y", ["y has 37 rows and X 40", "inconsistent", "give both for the same rows"],
          y=Y[:-3], doors=ARRAYS),
    *case("short strata", [r"\(37, 40\)", *UNEQUAL], strata=Z[:-3], doors=["table"]),
    *case("short strata", ["strata has 37 values", "the data have 40 rows", "give one value a row"],
          strata=Z[:-3], doors=ARRAYS),
    *case("long strata", ["strata has 80 values", "the data have 40 rows", "give one value a row"],
          strata=np.tile(Z, 2), doors=ARRAYS),
    # Missing values.
    *case("NaN in X", [r"missing values .* in 1 of 4 columns: x1 \(1\)", "expected none",
                       'Fill them.*missing="absent"'],
          X=with_value(X, (3, 1), np.nan), doors=["table"]),
    *case("NaN in X", ["'x1' of X has 1 missing values", "in row 3", "expected 0 or 1",
                       "Fill them or leave their rows out"],
          X=with_value(X, (3, 1), np.nan), doors=ARRAYS),
    *case("None in X", ["'x1' of X has 1 missing values", "expected 0 or 1", "Fill them"],
          X=with_value(X, (3, 1), None), doors=ARRAYS),
    *case("NaN in sparse X", ["the first is nan in row 3, column 1", "expected zeros and ones",
                              "make_items"],
          X=sparse.csr_array(with_value(X, (3, 1), np.nan)), doors=ARRAYS),
    *case("NaN in y", ["'y' has 1 missing values", "in 40 rows", "expected a class in every row",
                       "Leave these rows out"], y=with_value(Y, 2, np.nan)),
    *case("None in y", ["'y' has 1 missing values", "expected a class in every row",
                        "Leave these rows out"], y=with_value(Y, 2, None)),
    *case("NaN in strata", ["strata.* has 1 missing values", "every row needs a stratum",
                            r"\.fillna\(\"unknown\"\)"], strata=with_value(Z, 2, np.nan)),
    *case("None in strata", ["strata.* has 1 missing values", "every row needs a stratum",
                             "Leave these rows out"], strata=with_value(Z, 2, None)),
    # Values that are neither 0 nor 1.
    *case("counts", ["'x1' of X has 1 values", "the first is 2 in row 3", "neither 0 nor 1",
                     "mine_patterns.*makes items from columns of any kind"],
          X=with_value(X, (3, 1), 2), doors=ARRAYS),
    *case("fractions", ["the first is 0.5 in row 3", "neither 0 nor 1", "mine_patterns"],
          X=with_value(X, (3, 1), 0.5), doors=ARRAYS),
    *case("texts", ["'x0' of X holds values .* such as 'a'", "expected 0 or 1", "mine_patterns"],
          X=np.where(X, "a", "b"), doors=ARRAYS),
    *case("sparse counts", ["the first is 2 in row 3, column 1", "expected zeros and ones",
                            "mine_patterns"],
          X=sparse.csc_array(with_value(X, (3, 1), 2.0)), doors=ARRAYS),
    # Names.
    *case("repeated names", ["X has more than one column called 'a'", "column names must differ",
                             "Rename or drop"],
          X=pd.DataFrame(X, columns=list("abca")), doors=ARRAYS),
    *case("repeated item names", ["duplicate item names: b", "its own name"],
          item_names=list("abcb"), doors=["matrix"]),
    *case("too few item names", ["item_names has 2 names for 4 columns", "one name a column"],
          item_names=["a", "b"], doors=["matrix"]),
    *case("item names in one text", ["item_names='abcd' is of type str", "give a list of names"],
          error=InputTypeError, item_names="abcd", doors=["matrix"]),
    *case("the target among the items", ["the target 'c' is also a column of X", "leave it out",
                                         "find the outcome in itself"],
          X=pd.DataFrame(X, columns=list("abcd")), y=pd.Series(X[:, 2], name="c"), doors=ARRAYS),
    # Strata without information.
    *case("strata of one row", ["no informative stratum: 40 strata, all of size 1", *NO_STRATUM],
          strata=np.arange(N)),
    *case("strata of one class", ["no informative stratum: 2 strata of sizes 17 to 23",
                                  "1 with cases only and 1 with controls only", *NO_STRATUM],
          strata=Y),
    *case("a measured covariate", ["holds 80 different numbers with fractions",
                                   "expected a grouping", r"pandas\.qcut"],
          X=np.tile(X, (2, 1)), y=np.tile(Y, 2), strata=RNG.random(2 * N)),
    # Settings.
    *[
        entry
        for alpha in (0, 1, 5, -0.1, float("nan"))
        for entry in case(f"alpha={alpha}", [f"alpha={alpha!r}", r"not in \(0, 1\)", "0.05"],
                          alpha=alpha)
    ],
    *case("alpha as text", ["alpha='0.05'", "not a number", r"give one in \(0, 1\)"],
          error=InputTypeError, alpha="0.05"),
    *case("unknown method", ["method='fisher'", "not known", "choose one of exact, asymptotic"],
          method="fisher"),
    *case("no support", ["min_support=0", "must be at least 1"], min_support=0),
    *case("half an item", [r"max_length=1\.5", "whole number of at least 1"],
          error=InputTypeError, max_length=1.5),
    *case("no workers", ["n_jobs=0", "whole number other than 0", "-1 uses all cores"],
          error=InputTypeError, n_jobs=0),
]  # fmt: skip


@pytest.fixture
def no_search(monkeypatch):
    """Fail if a search starts: errors come before any work."""

    def started(*_arguments, **_settings):
        pytest.fail("the search started")

    monkeypatch.setattr(mining, "search_patterns", started)


def assert_says(message, words):
    text = " ".join(str(message).split())
    missing = [word for word in words if not re.search(word, text)]
    assert not missing, f"{missing} not in: {text}"


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize(("door", "arguments", "error", "words"), CASES)
def test_a_clear_error_before_any_work(door, arguments, error, words):
    with pytest.raises(error) as caught:
        door(**arguments)
    assert type(caught.value) is error
    assert_says(caught.value, words)


FRAME = pd.DataFrame(X, columns=list("abcd")).assign(y=Y, z=Z)


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize(
    ("frame", "options", "error", "words"),
    [
        (FRAME, {"target": "died"}, InputError,
         ["target names columns that the table does not have: died", "its columns are a, b, c"]),
        (FRAME, {"strata": ["z", "site"]}, InputError,
         ["strata names columns that the table does not have: site", "its columns are"]),
        (FRAME, {"columns": ["a", "q"]}, InputError,
         ["columns names columns that the table does not have: q", "its columns are"]),
        (FRAME, {"exclude": ["q"]}, InputError,
         ["exclude names columns that the table does not have: q", "its columns are"]),
        (FRAME, {"edges": {"q": [1]}}, InputError,
         ["edges names columns that the table does not have: q", "its columns are"]),
        (FRAME, {"columns": ["a", "y"]}, InputError,
         ["the target 'y' is also among the features", "leave it out of columns"]),
        (FRAME, {"strata": "z", "columns": ["a", "z"]}, InputError,
         ["z cannot be a stratum and a feature", "constant", "Leave it out of columns or of st"]),
        (FRAME, {"strata": "y"}, InputError,
         ["the target 'y' cannot be a stratum too", "name other strata"]),
        (FRAME, {"strata": ["z", "z"]}, InputError,
         [r"strata names a column twice \(z, z\)", "name each once"]),
        (FRAME, {"exclude": list("abcdz")}, InputError,
         ["no column is left", "the table has a, b, c, d, y, z", "exclude fewer"]),
        (FRAME, {"target": 4}, InputTypeError,
         ["target=4 must be the name of a column", "for arrays use mine_matrix"]),
        (FRAME, {"strata": 4}, InputTypeError,
         ["strata=4 is of type int", "give a list of names"]),
        (FRAME, {"strata": pd.Series(Z)}, InputTypeError,
         [f"strata holds {Z[0]}, which is no text", "give a list of names", "mine_matrix"]),
        (FRAME, {"columns": "abcd"}, InputTypeError,
         ["columns='abcd' is of type str", "give a list of names"]),
        (FRAME, {"exclude": "a"}, InputTypeError,
         ["exclude='a' is of type str", "give a list of names"]),
        (FRAME, {"bins": 1}, InputError, ["bins=1", "must be at least 2"]),
        (FRAME, {"missing": "ignore"}, InputError,
         ["missing='ignore' is not known", "choose one of error, absent, item, drop"]),
        (FRAME.set_axis(list("abcayz"), axis=1), {}, InputError,
         ["the table has more than one column called 'a'", "must differ", "Rename or drop"]),
        (FRAME.assign(a=np.inf), {}, InputError,
         ["column 'a' has 40 infinite", "expected finite numbers", "Replace them"]),
        (FRAME.assign(a=[1] * 39 + ["x"]), {}, InputError,
         ["column 'a' holds values of mixed types", "expected one type", "Convert the column"]),
        (FRAME[["a", "y"]].assign(a=1), {}, InputError,
         [r"no items are left to search: a \(constant", "Give columns that vary"]),
        ("patients.csv", {}, InputTypeError,
         ["of type str", "expected a pandas, polars or pyarrow table", "convert it first"]),
        ({"a": 1, "y": Y}, {}, InputTypeError,
         ["has no column of values for a", "give one value a row"]),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit(frame, options, error, words):
    with pytest.raises(error) as caught:
        mine_patterns(frame, **({"target": "y"} | options))
    assert type(caught.value) is error
    assert_says(caught.value, words)


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", [int, str])
def test_a_covariate_of_a_million_levels_is_refused_fast(door, kind):
    n = 1_000_000
    column = np.arange(n) % 7 == 0
    y = np.arange(n) % 2
    names = pd.Series(np.arange(n)).astype(kind)
    started = time.perf_counter()
    with pytest.raises(InputError) as caught:
        DOORS[door](column[:, None], y, strata=names)
    # A second; a loop over the strata, or over the words of the labels, would take far longer.
    assert time.perf_counter() - started < 10
    assert_says(caught.value, ["1,000,000 strata, all of size 1", *NO_STRATUM, r"pandas\.qcut"])


class TestNotAnError:
    """What looks bad and has an answer gets the answer, and says what was left out."""

    def test_nothing_testable(self, capsys):
        # Three rows: the smallest attainable p-value is 2/3, whatever the rows are.
        for results in (
            mine_matrix([[1], [0], [0]], [0, 1, 0]),
            mine_patterns({"a": [1, 0, 0], "y": [0, 1, 0]}, target="y"),
            FACS().fit([[1], [0], [0]], [0, 1, 0]).results_,
        ):
            assert len(results) == 0
            assert results.n_testable == 0
            assert np.isnan(results.testability_threshold)
            assert results.corrected_threshold == 0.05
            assert results.outcome.smallest_minimum_pvalue == pytest.approx(2 / 3)
            assert results.patterns.columns.tolist() == mine_matrix(X, Y).patterns.columns.tolist()
            results.print_summary()
            said = capsys.readouterr().out
            assert "smallest attainable p-value is 0.67" in said
            assert "0.05" in said
            assert results.to_dict()  # the report is a report

    def test_nothing_significant(self, capsys):
        results = mine_matrix(X, Y, strata=Z, alpha=1e-6)
        assert len(results) == 0
        assert results.tables.shape == (0, 3, 2, 2)
        results.print_summary()
        assert "0 significant patterns" in capsys.readouterr().out

    @pytest.mark.parametrize("value", [0, 1])
    def test_a_constant_column_is_kept_out_with_a_note(self, value):
        where = "present in" if value else "absent from"
        for results in (
            mine_matrix(np.column_stack([X, np.full(N, value)]), Y, item_names=list("abcde")),
            mine_patterns(FRAME.drop(columns="z").assign(e=value), target="y"),
        ):
            problem = results.problem
            assert "e" not in problem.item_names
            ((name, reason),) = [(item.name, item.reason) for item in problem.dropped]
            assert name == "e"
            assert reason.startswith(f"constant: {where} every")
            assert "constant" in str(results.to_dict())

    def test_a_matrix_of_constant_columns_has_no_patterns(self):
        results = mine_matrix(np.ones((N, 2)), Y)
        assert (len(results), results.n_testable, results.n_visited) == (0, 0, 0)
        assert len(results.problem.dropped) == 2
        assert results.to_dict()

    def test_one_column_one_row_a_class(self):
        with pytest.warns(DataWarning, match="x0: row by row the same"):
            results = mine_matrix([[1], [0]], ["a", "b"])
        assert results.outcome.smallest_minimum_pvalue == 1.0

    def test_strata_of_one_class_are_left_out(self):
        strata = np.where(Y == 1, Z, 7)  # every control is in stratum 7, with no case
        strata[np.flatnonzero(Y == 0)[:5]] = 0
        results = mine_matrix(X, Y, strata=strata)
        assert results.problem.stratum_labels == ("0",)
        left_out = [s.label for s in results.problem.strata_summary if not s.informative]
        assert left_out == ["1", "2", "7"]

    def test_clean_input_gives_no_warning(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mine_matrix(X, Y, strata=Z)
            mine_patterns(FRAME, target="y", strata="z")
            FACS().fit(X, Y, strata=Z)
        assert caught == []

    def test_an_item_that_repeats_the_outcome_is_a_warning(self):
        with pytest.warns(DataWarning, match="c: row by row the same as the target 'y'"):
            mine_patterns(FRAME.assign(c=Y), target="y")


LONG_SEARCH = """
import sys
import numpy as np
from sigmine import SearchInterrupted, mine_matrix

rng = np.random.default_rng(5)
matrix, y, strata = rng.random((1500, 60)) < 0.6, rng.integers(0, 2, 1500), np.arange(1500) % 4

def tell(progress):
    if progress.visited == 0:
        print("compiling", flush=True)
    elif progress.seconds > 0.2:
        print("running", flush=True)

try:
    mine_matrix(matrix, y, strata=strata, n_jobs=int(sys.argv[1]), progress=tell)
except SearchInterrupted as error:
    print("interrupted:", error)
    sys.exit(7)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
class TestInterrupt:
    """Ctrl-C ends within a second; 5 seconds leave room for a machine that is busy."""

    def interrupt(self, command, sign, stream, **environment):
        """Send SIGINT when `sign` is read; return code, output, errors and seconds to the end."""
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        try:
            pipe = getattr(process, stream)
            seen = [pipe.readline()]
            while seen[-1] and sign not in seen[-1]:
                seen.append(pipe.readline())
            assert sign in seen[-1], seen
            process.send_signal(signal.SIGINT)
            sent = time.monotonic()
            out, err = process.communicate(timeout=120)
            return process.returncode, out, err, time.monotonic() - sent
        finally:
            process.kill()
            process.wait()

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_python(self, n_jobs):
        code, out, err, seconds = self.interrupt(["-c", LONG_SEARCH, n_jobs], "running", "stdout")
        assert code == 7, err
        assert seconds < 5
        assert err == ""
        said = out.split("interrupted: ")[1]
        assert_says(said, ["interrupted before its end", "nothing .* can be called significant",
                           "max_length, min_support, fewer items"])  # fmt: skip

    @pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
    def test_first_search_on_a_machine(self, tmp_path):
        """A kernel that is being compiled cannot be stopped, and is not waited for."""
        code, _, err, seconds = self.interrupt(
            ["-c", LONG_SEARCH, 1], "compiling", "stdout", NUMBA_CACHE_DIR=str(tmp_path)
        )
        assert code == 7, err
        assert seconds < 5

    def test_command_line(self, tmp_path):
        rng = np.random.default_rng(5)
        frame = pd.DataFrame((rng.random((1500, 60)) < 0.6).astype(int)).add_prefix("x")
        frame.assign(y=rng.integers(0, 2, 1500)).to_csv(tmp_path / "long.csv", index=False)
        out = tmp_path / "patterns.csv"
        out.write_text("old")
        code, said, err, seconds = self.interrupt(
            ["-m", "sigmine", "mine", tmp_path / "long.csv", "--target", "y", "--out", out],
            "of the search space",
            "stderr",
        )
        assert code == 130, err
        assert seconds < 5
        assert "Traceback" not in err
        assert "interrupted before its end" in err
        assert said == ""
        assert out.read_text() == "old"
        assert sorted(os.listdir(tmp_path)) == ["long.csv", "patterns.csv"]
