"""`mine_patterns` and `mine_matrix`: from tables to the right problem, and to the right answer."""

from __future__ import annotations

import inspect
import re
import threading
from dataclasses import fields
from itertools import pairwise

import numba
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sigmine import FACS, SearchSettings, mine_matrix, mine_patterns
from sigmine.exceptions import DataWarning, InputError, StatisticalWarning
from sigmine.search import SearchProgress
from tests import naive
from tests.frames import every_frame
from tests.strategies import METHOD_SETTINGS, random_case

N_ROWS = 180


def patients():
    """Columns of every kind; smokers of 50 and more die more often in either sex."""
    rng = np.random.default_rng(14)
    smoker = rng.random(N_ROWS) < 0.5
    age = rng.integers(30, 80, N_ROWS)
    sex = rng.choice(["f", "m"], N_ROWS)
    rate = np.where(sex == "m", 0.3, 0.1) + 0.6 * (smoker & (age > 50))
    return {
        "smoker": smoker.tolist(),
        "blood": rng.choice(["A", "B", "0"], N_ROWS).tolist(),
        "age": age.tolist(),
        "sex": sex.tolist(),
        "ward": rng.integers(1, 4, N_ROWS).tolist(),
        "died": np.where(rng.random(N_ROWS) < rate, "yes", "no").tolist(),
    }


PATIENTS = patients()
EDGES = {"age": [40, 50, 65]}
HOLES = {"smoker": [0, 1, 2], "age": [2, 3], "sex": [4, 5], "died": [5, 6, 7, 8]}


def items_of(table):
    """Make the items of `PATIENTS` by hand, for edges at 40, 50 and 65; no code of ours."""
    age = np.array(table["age"])
    made = {"smoker": np.array(table["smoker"])}
    made |= {f"blood={letter}": np.array(table["blood"]) == letter for letter in "0AB"}
    made |= {
        "age<=40": age <= 40,
        "40<age<=50": (age > 40) & (age <= 50),
        "50<age<=65": (age > 50) & (age <= 65),
        "age>65": age > 65,
    }
    return made


def mine_by_hand(table, strata="sex", **options):
    made = items_of(table)
    X = np.column_stack(list(made.values()))
    return mine_matrix(X, table["died"], strata=table[strata], item_names=list(made), **options)


def assert_same_answer(one, other):
    pd.testing.assert_frame_equal(one.patterns, other.patterns)
    assert one.tables.tolist() == other.tables.tolist()
    for name in ("n_testable", "testability_threshold", "corrected_threshold", "n_visited"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.problem.strata_summary == other.problem.strata_summary


class TestOneSignature:
    """The doors have the same parameters with the same defaults, those of the settings."""

    def test_defaults(self):
        for door in (mine_patterns, mine_matrix, FACS):
            parameters = inspect.signature(door).parameters
            for field in fields(SearchSettings):
                assert parameters[field.name].default == field.default, (door, field.name)
            assert parameters["n_jobs"].default is None
            assert parameters["verbose"].default == 0


class TestMatrix:
    @pytest.mark.parametrize("settings", METHOD_SETTINGS, ids="-".join)
    @pytest.mark.filterwarnings("ignore::sigmine.StatisticalWarning", "ignore::sigmine.DataWarning")
    def test_equals_the_slow_twin(self, settings):
        method, alternative, two_sided, variance = settings
        options = {
            "method": method, "alternative": alternative, "two_sided": two_sided,
            "variance": variance, "alpha": 0.5,
        }  # fmt: skip
        rng = np.random.default_rng(5)
        n_found = 0
        for case in range(9):
            X, y, strata = random_case(rng, n_rows=28, n_items=5, effect=0.9)
            options |= {"min_support": 1 + case % 3, "max_length": [None, 2, 3][case % 3]}
            results = mine_matrix(X, y if alternative != "less" else ~y, strata=strata, **options)
            answer = naive.mine(
                X.tolist(),
                (y if alternative != "less" else ~y).tolist(),
                strata.tolist(),
                **options,
            )
            assert results.n_testable == answer["n_testable"]
            assert results.corrected_threshold == pytest.approx(answer["corrected_threshold"])
            expected = {
                tuple(f"x{j}" for j in h["closed"]): h["log_p"] for h in answer["significant"]
            }
            log_p = results.patterns["log10_pvalue"] * np.log(10)
            found = dict(zip(results.patterns["pattern"], log_p, strict=True))
            assert found == pytest.approx(expected)
            n_found += len(found)
        assert n_found > 5

    @every_frame
    def test_frames_bring_the_names(self, make_frame):
        made = items_of(PATIENTS)
        results = mine_matrix(
            make_frame({name: has.astype(int).tolist() for name, has in made.items()}),
            PATIENTS["died"],
            strata=PATIENTS["sex"],
        )
        assert_same_answer(results, mine_by_hand(PATIENTS))
        assert results.problem.item_names == tuple(made)

    def test_names_of_arrays_and_given_names(self):
        X = np.column_stack(list(items_of(PATIENTS).values()))
        assert mine_matrix(X, PATIENTS["died"]).problem.item_names[:2] == ("x0", "x1")
        names = [f"item {j}" for j in range(X.shape[1])]
        frame = pd.DataFrame(X, columns=list(items_of(PATIENTS)))
        for matrix in (X, frame, sparse.csr_array(X)):
            results = mine_matrix(matrix, PATIENTS["died"], item_names=pd.Index(names))
            assert results.problem.item_names == tuple(names)

    def test_dense_and_sparse_agree(self):
        X = np.column_stack(list(items_of(PATIENTS).values()))
        dense, thin = (
            mine_matrix(matrix, PATIENTS["died"], strata=PATIENTS["sex"])
            for matrix in (X, sparse.coo_array(X))
        )
        assert_same_answer(dense, thin)

    def test_the_outcome_brings_its_name(self):
        X = np.column_stack(list(items_of(PATIENTS).values()))
        named = mine_matrix(X, pd.Series(PATIENTS["died"], name="died"))
        assert named.problem.target_name == "died"
        assert named.problem.class_names == ("no", "yes")
        assert mine_matrix(X, PATIENTS["died"]).problem.target_name == "y"

    def test_positive_turns_the_question_round(self):
        X = np.column_stack(list(items_of(PATIENTS).values()))
        usual, turned = (
            mine_matrix(X, PATIENTS["died"], strata=PATIENTS["sex"], positive=positive)
            for positive in (None, "no")
        )
        assert turned.problem.class_names == ("yes", "no")
        assert turned.problem.n_cases == N_ROWS - usual.problem.n_cases
        assert turned.patterns["pvalue"].tolist() == pytest.approx(usual.patterns["pvalue"])
        assert "greater" in set(usual.patterns["direction"])
        swap = {"greater": "less", "less": "greater"}
        assert turned.patterns["direction"].tolist() == (
            usual.patterns["direction"].map(swap).tolist()
        )

    def test_strata_of_one_class_are_left_out_but_for_the_original_grid(self):
        X = np.column_stack(list(items_of(PATIENTS).values()))
        strata = np.array(PATIENTS["sex"], dtype=object)
        strata[np.flatnonzero(np.array(PATIENTS["died"]) == "no")[:20]] = "unknown"
        results = mine_matrix(X, PATIENTS["died"], strata=strata)
        assert results.problem.stratum_labels == ("f", "m")
        assert results.problem.table.n_rows == N_ROWS - 20
        assert [s.informative for s in results.problem.strata_summary] == [True, True, False]
        original = mine_matrix(X, PATIENTS["died"], strata=strata, grid_step=0.06)
        assert original.problem.stratum_labels == ("f", "m", "unknown")

    def test_constant_columns_are_kept_out_with_a_note(self):
        X = np.column_stack([items_of(PATIENTS)["smoker"], np.ones(N_ROWS), np.zeros(N_ROWS)])
        problem = mine_matrix(X, PATIENTS["died"], item_names=["a", "b", "c"]).problem
        assert problem.item_names == ("a",)
        assert {(item.name, item.reason) for item in problem.dropped} == {
            ("b", "constant: present in every searched row"),
            ("c", "constant: absent from every searched row"),
        }

    @pytest.mark.skipif(numba.config.DISABLE_JIT, reason="takes minutes as plain Python")
    def test_a_hundred_thousand_rows(self):
        rng = np.random.default_rng(0)
        X = rng.random((100_000, 50)) < 0.3
        strata = rng.integers(0, 4, len(X))
        y = rng.random(len(X)) < 0.2 + 0.1 * strata
        results = mine_matrix(X, y, strata=strata, max_length=2)
        assert results.n_testable == 50 + 50 * 49 // 2


class TestTable:
    @every_frame
    def test_equals_the_matrix_of_items_made_by_hand(self, make_frame):
        results = mine_patterns(
            make_frame(PATIENTS), target="died", strata="sex", exclude=["ward"], edges=EDGES
        )
        assert_same_answer(results, mine_by_hand(PATIENTS))
        assert results.problem.item_names == tuple(items_of(PATIENTS))
        assert results.problem.target_name == "died"
        assert results.problem.class_names == ("no", "yes")
        assert results.problem.strata_names == ("sex",)
        assert results.problem.stratum_labels == ("f", "m")
        assert "age was cut at 40, 50, 65 (as given)." in results.problem.notes
        assert len(results) > 2

    def test_an_array(self):
        table = np.column_stack([np.arange(40) % 2, np.arange(40) % 5, np.arange(40) % 3 == 0])
        results = mine_patterns(table, target="x2", strata="x0")
        assert results.problem.item_names == tuple(f"x1={level}" for level in range(5))

    @pytest.mark.filterwarnings("ignore::sigmine.StatisticalWarning")
    def test_every_parameter_reaches_the_search(self):
        options = {
            "alpha": 0.3, "method": "asymptotic", "alternative": "greater", "variance": "cochran",
            "grid_step": 0.06, "min_support": 12, "max_length": 2, "two_sided": "minlike",
        }  # fmt: skip
        results = mine_patterns(
            PATIENTS, target="died", strata="sex", columns=["smoker", "blood"], **options, n_jobs=2
        )
        assert results.settings == SearchSettings(**options)
        assert results.patterns["support"].min() >= 12
        assert set(results.patterns["direction"]) == {"greater"}

    def test_bins_and_negated_items(self):
        results = mine_patterns(
            PATIENTS, target="died", columns=["age", "smoker"], bins=2, bin_method="width",
            negate=True,
        )  # fmt: skip
        names = results.problem.item_names
        assert {"smoker", "not smoker"} <= set(names)
        assert len([name for name in names if "age" in name]) == 2
        assert "(equal widths)" in results.problem.notes[0]

    def test_the_answer_does_not_depend_on_the_order_of_rows_or_columns(self):
        frame = pd.DataFrame(PATIENTS)
        usual = mine_patterns(frame, target="died", strata="sex", bins=3)
        turned = mine_patterns(frame.iloc[::-1, ::-1], target="died", strata="sex", bins=3)
        assert len(usual) > 2
        assert usual.n_testable == turned.n_testable
        assert usual.corrected_threshold == turned.corrected_threshold
        left, right = (
            {
                frozenset(p): q
                for p, q in zip(r.patterns["pattern"], r.patterns["pvalue"], strict=True)
            }
            for r in (usual, turned)
        )
        assert left == pytest.approx(right)


class TestTarget:
    @pytest.mark.parametrize(
        "make",
        [
            lambda died: died,
            lambda died: pd.Series(died),
            lambda died: pd.Categorical(died),
            lambda died: [value == "yes" for value in died],
            lambda died: pd.array([value == "yes" for value in died], dtype="boolean"),
            lambda died: np.array([2 if value == "yes" else 1 for value in died]),
            lambda died: np.array([1.0 if value == "yes" else -1.0 for value in died]),
        ],
        ids=["text", "series", "categorical", "bool", "nullable", "int", "float"],
    )
    def test_any_two_values(self, make):
        expected = mine_by_hand(PATIENTS)
        table = PATIENTS | {"died": make(PATIENTS["died"])}
        results = mine_patterns(table, target="died", strata="sex", exclude=["ward"], edges=EDGES)
        assert_same_answer(results, expected)

    def test_positive(self):
        for positive in ("no", np.str_("no")):
            results = mine_patterns(PATIENTS, target="died", positive=positive)
            assert results.problem.class_names == ("yes", "no")
            assert results.problem.n_cases == PATIENTS["died"].count("no")
        codes = PATIENTS | {"died": [int(value == "yes") for value in PATIENTS["died"]]}
        for positive in (0, "0"):
            results = mine_patterns(codes, target="died", positive=positive)
            assert results.problem.class_names == ("1", "0")


class TestStrata:
    def test_none_is_one_stratum(self):
        for strata in (None, [], ()):
            results = mine_patterns(PATIENTS, target="died", strata=strata)
            assert results.problem.stratum_labels == ("all rows",)
            assert results.problem.strata_names == ()
            assert {"sex=f", "sex=m"} & set(results.problem.item_names)

    @pytest.mark.parametrize(
        "strata", [["sex", "ward"], ("sex", "ward"), pd.Index(["sex", "ward"])]
    )
    def test_several_columns_are_crossed(self, strata):
        results = mine_patterns(PATIENTS, target="died", strata=strata, edges=EDGES)
        problem = results.problem
        assert problem.strata_names == ("sex", "ward")
        assert problem.stratum_labels == tuple(
            f"sex={sex}, ward={ward}" for sex in "fm" for ward in (1, 2, 3)
        )
        assert not any(name.startswith(("sex", "ward")) for name in problem.item_names)
        merged = [f"{s}{w}" for s, w in zip(PATIENTS["sex"], PATIENTS["ward"], strict=True)]
        expected = mine_by_hand(PATIENTS | {"both": merged}, strata="both")
        assert results.patterns["pvalue"].tolist() == expected.patterns["pvalue"].tolist()
        assert results.tables.tolist() == expected.tables.tolist()

    def test_the_order_of_covariates_changes_labels_only(self):
        one = mine_patterns(PATIENTS, target="died", strata=["sex", "ward"])
        other = mine_patterns(PATIENTS, target="died", strata=["ward", "sex"])
        assert other.problem.stratum_labels[0] == "ward=1, sex=f"
        assert one.patterns["pvalue"].tolist() == pytest.approx(other.patterns["pvalue"])
        assert one.n_testable == other.n_testable

    @pytest.mark.parametrize("kind", [bool, int, float])
    def test_numbers_of_few_values(self, kind):
        male = [kind(value == "m") for value in PATIENTS["sex"]]
        results = mine_patterns(
            PATIENTS | {"sex": male}, target="died", strata="sex", exclude=["ward"], edges=EDGES
        )
        expected = mine_by_hand(PATIENTS)
        assert results.patterns["pvalue"].tolist() == expected.patterns["pvalue"].tolist()

    def test_a_measurement_is_no_covariate(self):
        weight = 50 + 40 * np.random.default_rng(0).random(N_ROWS)
        with pytest.raises(
            InputError,
            match=r"strata column 'weight' holds 180 different numbers with fractions; expected a "
            r"grouping\. Cut it into bands, for example with pandas\.qcut",
        ):
            mine_patterns(PATIENTS | {"weight": weight}, target="died", strata="weight")
        bands = pd.qcut(weight, 3)
        results = mine_patterns(PATIENTS | {"weight": bands}, target="died", strata="weight")
        assert results.problem.table.n_strata == 3


class TestColumns:
    def sources(self, **options):
        problem = mine_patterns(PATIENTS, target="died", edges=EDGES, **options).problem
        return {re.search("smoker|blood|age|sex|ward", name)[0] for name in problem.item_names}

    def test_all_but_target_and_strata(self):
        assert self.sources() == {"smoker", "blood", "age", "sex", "ward"}
        assert self.sources(strata="sex") == {"smoker", "blood", "age", "ward"}

    def test_columns_and_exclude(self):
        assert self.sources(columns=["smoker", "age"]) == {"smoker", "age"}
        assert self.sources(columns=["smoker", "age"], exclude=["smoker"]) == {"age"}
        assert self.sources(exclude=("ward", "sex", "blood")) == {"smoker", "age"}
        # A role excluded too is no contradiction: both say that it is not a feature.
        assert self.sources(strata="sex", exclude=["sex", "died"], columns=["age"]) == {"age"}
        assert self.sources(columns=["age", "age"], exclude=None) == {"age"}

    def test_identifiers_are_left_out_with_a_warning(self):
        table = PATIENTS | {"id": [f"p{i}" for i in range(N_ROWS)]}
        with pytest.warns(
            DataWarning, match="left out as identifiers, with more than 50 levels: id"
        ):
            results = mine_patterns(table, target="died")
        assert results.problem.dropped[0].name == "id"
        mine_patterns(table, target="died", exclude=["id"])  # an error here if it warned
        results = mine_patterns(table, target="died", max_levels=N_ROWS, max_length=1)
        assert "id=p0" in results.problem.item_names


class TestMissing:
    """Holes in a feature follow the policy; in target and strata they are an error, or dropped."""

    def table(self, *columns, make_frame=dict):
        table = dict(PATIENTS)
        for name in columns:
            table[name] = [
                None if i in HOLES[name] else value for i, value in enumerate(table[name])
            ]
        return make_frame(table)

    def mine(self, frame, missing, **options):
        how = {"target": "died", "strata": "sex", "exclude": ["ward"], "edges": EDGES}
        return mine_patterns(frame, missing=missing, **(how | options))

    @every_frame
    @pytest.mark.parametrize(
        "columns", [("smoker",), ("sex",), ("died",), ("smoker", "age", "sex", "died")]
    )
    def test_drop(self, make_frame, columns):
        gone = {i for name in columns for i in HOLES[name]}
        kept = {
            name: [value for i, value in enumerate(values) if i not in gone]
            for name, values in PATIENTS.items()
        }
        results = self.mine(self.table(*columns, make_frame=make_frame), "drop")
        assert_same_answer(results, mine_by_hand(kept))
        assert results.problem.n_rows == N_ROWS - len(gone)

    def test_drop_takes_any_array(self):
        pa = pytest.importorskip("pyarrow")
        table = self.table("smoker", "sex", "died")
        table |= {
            "sex": pd.Categorical(table["sex"]),
            "died": np.array(table["died"], dtype=object),
            "blood": pa.array(table["blood"]),
            "age": pd.array(table["age"], dtype="Int64"),
            "smoker": pd.array(table["smoker"], dtype="boolean"),
        }
        assert_same_answer(
            self.mine(table, "drop"), self.mine(self.table("smoker", "sex", "died"), "drop")
        )

    def test_drop_says_how_many_rows_for_which_columns(self):
        notes = self.mine(self.table("smoker", "sex", "died"), "drop").problem.notes
        assert notes[0] == (
            "5 rows left out because target or stratum is missing: died (4), sex (2)."
        )
        assert "3 of 175 rows were left out because of missing values: smoker (3)." in notes

    def test_drop_without_holes_says_nothing(self):
        results = self.mine(PATIENTS, "drop")
        assert_same_answer(results, mine_by_hand(PATIENTS))
        assert results.problem.notes == ("age was cut at 40, 50, 65 (as given).",)

    @pytest.mark.parametrize("missing", ["absent", "item"])
    def test_absent_and_item(self, missing):
        results = self.mine(self.table("smoker", "age"), missing)
        made = items_of(PATIENTS)
        for name, has in made.items():
            for column in ("smoker", "age"):
                if column in name:
                    has[HOLES[column]] = False
        if missing == "item":
            for column in ("smoker", "age"):
                made[f"{column} is missing"] = np.isin(np.arange(N_ROWS), HOLES[column])
        assert set(results.problem.item_names) == set(made)
        order = list(results.problem.item_names)
        X = np.column_stack([made[name] for name in order])
        expected = mine_matrix(X, PATIENTS["died"], strata=PATIENTS["sex"], item_names=order)
        assert_same_answer(results, expected)

    @every_frame
    @pytest.mark.parametrize("missing", ["error", "absent", "item"])
    @pytest.mark.parametrize(
        ("column", "message"),
        [
            ("sex", r"strata column 'sex' has 2 missing values .*every row needs a stratum"),
            ("died", r"target 'died' has 4 missing values .*expected a class in every row"),
        ],
    )
    def test_target_and_strata_must_be_there(self, make_frame, missing, column, message):
        with pytest.raises(InputError, match=message):
            self.mine(self.table(column, make_frame=make_frame), missing)

    @every_frame
    def test_features_must_be_there_by_default(self, make_frame):
        table = self.table("smoker", "age", make_frame=make_frame)
        with pytest.raises(
            InputError,
            match=r"missing values .*2 of 3 columns: smoker \(3\), age \(2\); .*missing=\"absent\"",
        ):
            self.mine(table, "error")

    def test_holes_in_columns_that_are_not_used_do_not_matter(self):
        table = self.table("smoker", "sex")
        results = self.mine(table, "drop", strata="ward", exclude=["smoker", "sex"])
        assert results.problem.n_rows == N_ROWS

    def test_what_dropping_can_do_to_the_outcome(self):
        table = {"a": [1, None, 0, 1, None], "y": [1, 0, 1, 1, 0]}
        with pytest.raises(
            InputError, match=r"^after rows with missing values were left out: target 'y' has only"
        ):
            mine_patterns(table, target="y", missing="drop")
        with pytest.raises(
            InputError,
            match=r"no row of 5 has a value of the target and of every stratum: missing in y \(5\)",
        ):
            mine_patterns(table | {"y": [None] * 5}, target="y", missing="drop")


class TestWarnings:
    @pytest.mark.parametrize("opposite", [False, True])
    def test_an_item_that_is_the_outcome(self, opposite):
        table = PATIENTS | {
            "certificate": [(value == "yes") != opposite for value in PATIENTS["died"]]
        }
        with pytest.warns(
            DataWarning, match="^certificate: row by row the same as the target 'died'"
        ) as caught:
            results = mine_patterns(table, target="died", strata="sex")
        assert caught[0].filename == __file__
        assert len(caught) == 1
        assert "certificate" in results.patterns["pattern"].iloc[0]
        mine_patterns(table, target="died", strata="sex", exclude=["certificate"])
        table["certificate"][0] = not table["certificate"][0]
        mine_patterns(table, target="died", strata="sex")  # an error here if it warned

    def test_several_leaks_are_named(self):
        y = [0, 1, 1] * 20
        with pytest.warns(DataWarning, match="^b, d: row by row"):
            mine_matrix(np.column_stack([[1, 0, 1] * 20, y, [0, 0, 1] * 20, np.array(y) ^ 1]), y,
                        item_names=list("abcd"))  # fmt: skip

    def test_the_asymptotic_test_where_it_is_thin(self):
        rare = [value == "yes" and i % 4 == 0 for i, value in enumerate(PATIENTS["died"])]
        with pytest.warns(StatisticalWarning, match="chi-squared approximation is too thin") as w:
            mine_patterns(PATIENTS | {"died": rare}, target="died", method="asymptotic")
        assert w[0].filename == __file__


class TestProgress:
    def test_callback(self):
        rng = np.random.default_rng(0)
        # Long enough for several calls in either stage.
        shape = (400, 22) if numba.config.DISABLE_JIT else (600, 40)
        X, y = rng.random(shape) < 0.4, rng.random(shape[0]) < 0.5
        seen: list[SearchProgress] = []
        results = mine_matrix(X, y, progress=seen.append)
        assert_same_answer(results, mine_matrix(X, y))
        assert {progress.stage for progress in seen} == {"threshold"}
        for before, after in pairwise(seen):
            assert after.visited >= before.visited
            assert after.seconds >= before.seconds
            assert after.threshold <= before.threshold
            if after.stage == before.stage:
                assert after.fraction_done >= before.fraction_done
        assert all(0 <= progress.fraction_done <= 1 for progress in seen)
        assert seen[-1].visited >= results.n_visited > 0

    def test_the_callback_is_called_in_the_thread_of_the_caller(self):
        threads = set()
        mine_patterns(
            PATIENTS, target="died", progress=lambda _: threads.add(threading.current_thread())
        )
        assert threads == {threading.current_thread()}

    def test_an_error_of_the_callback_ends_the_search(self):
        rng = np.random.default_rng(5)
        X, y = rng.random((1500, 60)) < 0.6, rng.integers(0, 2, 1500)  # minutes of work

        def fail(progress: SearchProgress) -> None:
            if progress.visited:
                raise RuntimeError("from the callback")

        with pytest.raises(RuntimeError, match="from the callback"):
            mine_matrix(X, y, progress=fail)
        workers = [t for t in threading.enumerate() if t.name == "sigmine-search"]
        for worker in workers:
            worker.join(timeout=10)
        assert not any(worker.is_alive() for worker in workers)

    def test_verbose_is_silent_in_the_first_second(self, capsys):
        X, y = [[1, 0], [0, 1], [1, 1], [0, 0]] * 3, [1, 0, 0, 0] * 3
        expected = mine_matrix(X, y)  # compiles, if nothing did before
        assert_same_answer(mine_matrix(X, y, verbose=1), expected)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err == ""

    def test_quiet_by_default(self, capsys):
        mine_patterns(PATIENTS, target="died")
        assert capsys.readouterr() == ("", "")
