"""`FACS` in scikit-learn's contract: its own checks, containers, routing, output, parameters."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from sigmine import FACS, mine_matrix
from sigmine.exceptions import DataWarning, InputError, InputTypeError, StatisticalWarning
from tests import naive
from tests.frames import LIBRARIES
from tests.strategies import random_case

NAMES = ["smoker", "drinker", "night shift", "rural", "manual", "over 50"]


def planted(n_rows=240, seed=3, share=0.5):
    """(X, y, strata): carriers of items 0 and 1 together are cases more often in every stratum."""
    rng = np.random.default_rng(seed)
    strata = rng.integers(0, 3, n_rows)
    X = rng.integers(0, 2, (n_rows, len(NAMES)))
    rate = share * np.array([0.4, 0.8, 1.2])[strata] + 0.5 * (X[:, 0] & X[:, 1])
    return X, (rng.random(n_rows) < rate).astype(int), strata


@pytest.fixture(scope="module")
def data():
    return planted()


@pytest.fixture(scope="module")
def fitted(data):
    X, y, strata = data
    return FACS(alpha=0.2).fit(pd.DataFrame(X, columns=NAMES), y, strata=strata)


def assert_same_search(one, other, names=True):
    """Everything that a search found is equal, with or without the names of the items."""
    left, right = one.patterns_, other.patterns_
    if not names:
        left, right = (p.drop(columns=["pattern", "generator"]) for p in (left, right))
    pd.testing.assert_frame_equal(left, right)
    for attribute in (
        "n_testable_", "testability_threshold_", "corrected_threshold_", "n_visited_",
    ):  # fmt: skip
        assert getattr(one, attribute) == getattr(other, attribute), attribute
    assert one.results_.tables.tolist() == other.results_.tables.tolist()


# At a threshold of 0, the features of some checks equal the classes, those of others are constant,
# as our warnings say. Nothing else is let through.
@pytest.mark.filterwarnings(
    "ignore:.*row by row the same as the target:sigmine.DataWarning",
    "ignore:No significant patterns.*no item varies:sigmine.DataWarning",
)
@parametrize_with_checks([FACS(binarize=0.0)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_tags():
    tags = get_tags(FACS())
    assert tags.target_tags.required
    assert tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    assert not tags.classifier_tags.multi_class


class TestTheAnswer:
    @pytest.mark.parametrize("method", ["exact", "asymptotic"])
    @pytest.mark.filterwarnings("ignore::sigmine.StatisticalWarning", "ignore::sigmine.DataWarning")
    def test_equals_the_slow_twin(self, method):
        rng = np.random.default_rng(11)
        n_found = 0
        for _ in range(10):
            X, y, strata = random_case(rng, n_rows=30, n_items=5, effect=0.9)
            miner = FACS(alpha=0.6, method=method).fit(X, y, strata=strata)
            expected = naive.mine(X.tolist(), y.tolist(), strata.tolist(), alpha=0.6, method=method)
            assert miner.n_testable_ == expected["n_testable"]
            assert miner.corrected_threshold_ == pytest.approx(expected["corrected_threshold"])
            patterns = {
                tuple(f"x{j}" for j in h["closed"]): h["p"] for h in expected["significant"]
            }
            found = dict(zip(miner.patterns_["pattern"], miner.patterns_["pvalue"], strict=True))
            assert found == pytest.approx(patterns)
            n_found += len(found)
        assert n_found > 10

    def test_finds_what_is_there(self, fitted):
        assert fitted.patterns_["pattern"].iloc[0] == ("smoker", "drinker")

    def test_attributes_are_those_of_the_results(self, fitted):
        results = fitted.results_
        assert fitted.patterns_ is results.patterns
        assert fitted.n_testable_ == results.n_testable > 0
        assert fitted.testability_threshold_ == results.testability_threshold
        assert fitted.corrected_threshold_ == 0.2 / fitted.n_testable_
        assert fitted.n_visited_ == results.n_visited

    @pytest.mark.parametrize(
        "options",
        [
            {"alpha": 0.3, "method": "asymptotic", "variance": "cochran", "grid_step": 0.06},
            {"alternative": "greater", "max_length": 2},
            {"alternative": "less", "min_support": 40},
            {"two_sided": "minlike", "n_jobs": 2, "alpha": 0.4},
        ],
        ids=str,
    )
    @pytest.mark.filterwarnings("ignore::sigmine.StatisticalWarning")
    def test_every_parameter_reaches_the_search(self, data, options):
        X, y, strata = data
        frame = pd.DataFrame(X, columns=NAMES)
        miner = FACS(**options).fit(frame, y, strata=strata)
        expected = mine_matrix(frame, y, strata=strata, **options)
        pd.testing.assert_frame_equal(miner.patterns_, expected.patterns)
        assert miner.results_.settings == expected.settings
        for name, value in options.items():
            if name != "n_jobs":
                assert getattr(miner.results_.settings, name) == value

    def test_the_number_of_workers_does_not_matter(self, data):
        X, y, strata = data
        one, two = (FACS(alpha=0.4, n_jobs=n_jobs).fit(X, y, strata=strata) for n_jobs in (None, 2))
        assert len(one.patterns_) > 1
        assert_same_search(one, two)

    def test_the_strata_matter(self, data):
        X, y, strata = data
        miner = FACS(alpha=0.2)
        given, merged = (clone(miner).fit(X, y, strata=z).results_ for z in (strata, None))
        assert given.problem.stratum_labels == ("0", "1", "2")
        assert merged.problem.stratum_labels == ("all rows",)
        assert given.tables.sum(axis=1)[0].tolist() == merged.tables.sum(axis=1)[0].tolist()
        assert given.patterns["pvalue"][0] != pytest.approx(merged.patterns["pvalue"][0])


class TestInput:
    @pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32, float, object])
    def test_arrays(self, fitted, data, dtype):
        X, y, strata = data
        miner = FACS(alpha=0.2).fit(X.astype(dtype), y, strata=strata)
        assert_same_search(miner, fitted, names=False)
        assert not hasattr(miner, "feature_names_in_")
        assert miner.patterns_["pattern"].iloc[0] == ("x0", "x1")
        assert miner.transform(X.tolist()).tolist() == miner.transform(X).tolist()

    @pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
    @pytest.mark.parametrize("style", ["array", "matrix"])
    @pytest.mark.parametrize("binarize", [None, 0.5])
    def test_sparse(self, fitted, data, kind, style, binarize):
        X, y, strata = data
        thin = getattr(sparse, f"{kind}_{style}")(X)
        miner = FACS(alpha=0.2, binarize=binarize).fit(thin, y, strata=strata)
        assert_same_search(miner, fitted, names=False)
        out = miner.transform(thin)
        assert isinstance(out, np.ndarray)
        assert out.tolist() == fitted.transform(pd.DataFrame(X, columns=NAMES)).tolist()

    @pytest.mark.parametrize("kind", sorted(set(LIBRARIES) - {"dict"}))
    def test_frames(self, fitted, data, kind):
        X, y, strata = data
        make = LIBRARIES[kind]
        frame = make({name: X[:, j].tolist() for j, name in enumerate(NAMES)})
        miner = FACS(alpha=0.2).fit(frame, y, strata=strata)
        assert_same_search(miner, fitted)
        assert miner.feature_names_in_.tolist() == NAMES
        assert miner.n_features_in_ == len(NAMES)
        reference = fitted.transform(pd.DataFrame(X, columns=NAMES))
        assert miner.transform(frame).tolist() == reference.tolist()

    def test_a_dict_is_refused(self, data):
        X, y, _ = data
        with pytest.raises(InputTypeError, match=r"X is a dict.*pandas\.DataFrame\(X\).*mine_mat"):
            FACS().fit({"a": X[:, 0]}, y)

    @pytest.mark.parametrize("kind", ["list", "pandas", "polars", "pyarrow", "array"])
    def test_targets_and_strata_of_any_library(self, fitted, data, kind):
        X, y, strata = data
        make = {
            "list": list,
            "pandas": lambda v: pd.Series(v, index=range(7, 7 + len(v))),  # matched by position
            "polars": lambda v: pytest.importorskip("polars").Series(v),
            "pyarrow": lambda v: pytest.importorskip("pyarrow").chunked_array([v]),
            "array": np.asarray,
        }[kind]
        miner = FACS(alpha=0.2).fit(X, make(y), strata=make(strata))
        assert_same_search(miner, fitted, names=False)

    def test_several_covariates(self, data):
        X, y, strata = data
        ward = np.arange(len(y)) % 2
        expected = FACS().fit(X, y, strata=[f"{a}-{b}" for a, b in zip(strata, ward, strict=True)])
        for several in (
            pd.DataFrame({"site": strata, "ward": ward}),
            np.column_stack([strata, ward]),
            [strata, ward],
        ):
            assert_same_search(FACS().fit(X, y, strata=several), expected)
        named = FACS().fit(X, y, strata=pd.DataFrame({"site": strata, "ward": ward})).results_
        assert named.problem.strata_names == ("site", "ward")
        assert named.problem.stratum_labels[0] == "site=0, ward=0"

    @pytest.mark.parametrize(
        ("y", "classes"),
        [
            ([0, 1], [0, 1]),
            ([False, True], [False, True]),
            ([-1.0, 1.0], [-1.0, 1.0]),
            (["ill", "well"], ["ill", "well"]),
            (pd.Categorical(["well", "ill"], ["well", "ill"], ordered=True), ["well", "ill"]),
            (pd.array([0, 1], dtype="Int64"), [0, 1]),
        ],
        ids=["int", "bool", "float", "text", "ordered", "nullable"],
    )
    def test_classes_are_control_and_case_as_given(self, data, y, classes):
        X, codes, _ = data
        column = pd.Series(y).iloc[codes].reset_index(drop=True)
        miner = FACS(alpha=0.2).fit(X, column)
        assert miner.classes_.tolist() == classes
        assert [type(c) for c in miner.classes_.tolist()] == [type(c) for c in classes]
        assert miner.results_.problem.n_cases == codes.sum()

    def test_a_column_vector_is_taken_with_a_warning(self, fitted, data):
        X, y, strata = data
        with pytest.warns(DataConversionWarning, match="column-vector y"):
            miner = FACS(alpha=0.2).fit(X, y[:, None], strata=strata)
        assert_same_search(miner, fitted, names=False)

    def test_binarize(self, data):
        X, y, _ = data
        numbers = X * 3.0 - 1.5
        expected = FACS().fit(X, y)
        assert_same_search(FACS(binarize=0.0).fit(numbers, y), expected)
        assert_same_search(FACS(binarize=np.float32(1.5)).fit(X * 2, y), expected)
        assert_same_search(FACS(binarize=0).fit(X * 7, y), expected)
        with pytest.raises(InputError, match="neither 0 nor 1"):
            FACS().fit(numbers, y)
        with pytest.raises(InputError, match=r"binarize=-1\.0 is below 0.*sparse X"):
            FACS(binarize=-1).fit(sparse.csr_array(X), y)

    @pytest.mark.parametrize("binarize", [None, 0.5])
    def test_repeated_names(self, data, binarize):
        X, y, _ = data
        frame = pd.DataFrame(X[:, :3], columns=["a", "b", "a"])
        with pytest.raises(InputError, match="more than one column called 'a'"):
            FACS(binarize=binarize).fit(frame, y)

    def test_fit_without_y(self, data):
        for arguments in ((), (None,)):
            with pytest.raises(InputError, match=r"requires y to be passed.*None; give one class"):
                FACS().fit(data[0], *arguments)


class TestTransform:
    @pytest.mark.parametrize("kind", ["frame", "sparse"])
    def test_equals_brute_force_on_new_rows(self, fitted, kind):
        rng = np.random.default_rng(8)
        rows = rng.integers(0, 2, (50, len(NAMES)))
        frame = pd.DataFrame(rows, columns=NAMES)
        patterns = fitted.patterns_["pattern"].tolist()
        expected = [
            [int(all(row[item] for item in pattern)) for pattern in patterns]
            for row in frame.to_dict("records")
        ]
        if kind == "frame":
            out = fitted.transform(frame)
        else:
            with pytest.warns(UserWarning, match="does not have valid feature names"):
                out = fitted.transform(sparse.csr_array(rows))
        assert out.dtype == np.int8
        assert out.shape == (50, len(patterns))
        assert len(patterns) > 1
        assert out.tolist() == expected

    def test_counts_the_carriers_of_the_training_rows(self, fitted, data):
        out = fitted.transform(pd.DataFrame(data[0], columns=NAMES))
        assert out.sum(axis=0).tolist() == fitted.patterns_["support"].tolist()

    def test_a_wide_sparse_matrix_stays_sparse(self):
        rng = np.random.default_rng(0)
        n_rows, n_items = 2_000, 2_000  # 4 MB as dense bytes
        y = np.arange(n_rows) % 2
        X = sparse.random_array((n_rows, n_items), density=0.001, format="lil", rng=rng)
        X[:, [7, 1_500]] = np.where(rng.random((n_rows, 2)) < 0.1, 1 - y[:, None], y[:, None])
        X = (X.tocsr() != 0).astype(np.int8)
        miner = FACS(max_length=1).fit(X, y)
        assert set(miner.patterns_["pattern"]) >= {("x7",), ("x1500",)}
        tracemalloc.start()
        try:
            out = miner.transform(X)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert out.sum(axis=0).tolist() == miner.patterns_["support"].tolist()
        assert peak < 1e6

    def test_names(self, fitted):
        names = fitted.get_feature_names_out()
        assert names.dtype == object
        assert names.tolist() == [" & ".join(p) for p in fitted.patterns_["pattern"]]
        assert names[0] == "smoker & drinker"
        assert fitted.get_feature_names_out(NAMES).tolist() == names.tolist()
        with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
            fitted.get_feature_names_out(NAMES[::-1])
        with pytest.raises(ValueError, match="input_features should have length equal"):
            fitted.get_feature_names_out(NAMES[:-1])

    def test_names_for_an_array(self, data):
        X, y, _ = data
        miner = FACS().fit(X, y)
        assert miner.get_feature_names_out()[0] == "x0 & x1"
        assert miner.get_feature_names_out(NAMES)[0] == "smoker & drinker"

    @pytest.mark.parametrize("container", ["pandas", "polars"])
    def test_set_output(self, data, container):
        library = pytest.importorskip(container)
        X, y, strata = data
        frame = pd.DataFrame(X, columns=NAMES, index=np.arange(len(y)) + 100)
        miner = FACS(alpha=0.2).set_output(transform=container).fit(frame, y, strata=strata)
        out = miner.transform(frame)
        assert isinstance(out, library.DataFrame)
        assert list(out.columns) == miner.get_feature_names_out().tolist()
        assert out.to_numpy().sum(axis=0).tolist() == miner.patterns_["support"].tolist()
        if container == "pandas":
            assert out.index.equals(frame.index)

    def test_fit_transform_is_fit_and_transform(self, fitted, data):
        X, y, strata = data
        frame = pd.DataFrame(X, columns=NAMES)
        out = FACS(alpha=0.2).fit_transform(frame, y, strata=strata)
        assert out.tolist() == fitted.transform(frame).tolist()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda frame: frame.rename(columns={"rural": "urban"}), "feature names"),
            (lambda frame: frame[NAMES[::-1]], "feature names"),
            (lambda frame: frame[NAMES[:-1]], "feature names"),
            (lambda frame: frame.to_numpy() * 2, "neither 0 nor 1"),
            (lambda frame: frame.to_numpy()[:0], "0 sample"),
        ],
        ids=["renamed", "reordered", "fewer", "values", "no rows"],
    )
    def test_rows_of_another_table(self, fitted, data, change, message):
        with pytest.raises(ValueError, match=message):
            fitted.transform(change(pd.DataFrame(data[0], columns=NAMES)))

    def test_unfitted(self, data):
        for use in (lambda m: m.transform(data[0]), lambda m: m.get_feature_names_out()):
            with pytest.raises(NotFittedError):
                use(FACS())


class TestNoPatterns:
    """As in scikit-learn's SelectorMixin: no columns, and a warning that says why."""

    @pytest.mark.parametrize("container", ["default", "pandas", "polars"])
    def test_no_columns(self, data, container):
        X, y, _ = data
        miner = FACS(alpha=1e-12).set_output(transform=container).fit(X, y)
        with pytest.warns(DataWarning, match="none of the .* testable patterns has a p-value of"):
            out = miner.transform(X)
        assert out.shape == (len(y), 0) or container == "polars"  # which counts rows by columns
        assert out.shape[1] == 0
        assert miner.get_feature_names_out().tolist() == []
        assert len(miner.patterns_) == 0

    def test_nothing_testable(self):
        miner = FACS().fit([[1], [0], [1]], [1, 0, 0])
        assert miner.n_testable_ == 0
        assert np.isnan(miner.testability_threshold_)
        assert miner.corrected_threshold_ == 0.05
        reason = r"smallest attainable p-value is 0\.667, above alpha=0\.05"
        with pytest.warns(DataWarning, match=reason):
            assert miner.transform([[1], [0]]).shape == (2, 0)

    def test_nothing_to_test(self):
        miner = FACS().fit(np.ones((6, 2)), [0, 1] * 3)
        with pytest.warns(DataWarning, match="no pattern to test: no item varies"):
            assert miner.transform(np.ones((6, 2))).shape == (6, 0)

    def test_the_warning_points_at_the_caller(self, data):
        X, y, _ = data
        miner = FACS(alpha=1e-12).fit(X, y)
        with pytest.warns(DataWarning) as caught:
            miner.transform(X)
        assert caught[0].filename == __file__


class TestAsAnObject:
    def test_repr(self):
        assert repr(FACS()) == "FACS()"
        assert repr(FACS(0.01, max_length=3)) == "FACS(alpha=0.01, max_length=3)"

    def test_clone_has_the_parameters_and_not_the_fit(self, fitted):
        again = clone(fitted)
        assert again.get_params() == fitted.get_params()
        assert not hasattr(again, "results_")

    def test_pickle(self, fitted, data):
        again = pickle.loads(pickle.dumps(fitted))
        assert_same_search(again, fitted)
        frame = pd.DataFrame(data[0], columns=NAMES)
        assert again.transform(frame).tolist() == fitted.transform(frame).tolist()
        assert again.results_.settings == fitted.results_.settings
        assert again.results_.problem.item_names == fitted.results_.problem.item_names
        assert again.results_.generators(0) == fitted.results_.generators(0)
        pd.testing.assert_frame_equal(
            again.results_.stratum_table(0), fitted.results_.stratum_table(0)
        )
        pd.testing.assert_frame_equal(again.results_.comparison(), fitted.results_.comparison())

    def test_fitting_again_forgets(self, data):
        X, y, strata = data
        frame = pd.DataFrame(X, columns=NAMES)
        miner = FACS(alpha=0.2).fit(frame, y, strata=strata)
        miner.fit(X[:, :2], y)
        assert miner.n_features_in_ == 2
        assert not hasattr(miner, "feature_names_in_")
        assert_same_search(miner, FACS(alpha=0.2).fit(X[:, :2], y))

    def test_fitting_does_not_change_the_data(self, data):
        X, y, strata = (array.copy() for array in data)
        for array in (X, y, strata):
            array.flags.writeable = False
        FACS().fit(X, y, strata=strata).transform(X)
        thin = sparse.csr_array(X)
        before = thin.copy()
        FACS().fit(thin, y).transform(thin)
        assert (thin != before).nnz == 0
        assert thin.dtype == before.dtype

    @pytest.mark.parametrize(
        ("parameters", "error"),
        [
            ({"alpha": 0}, InputError),
            ({"alpha": 1.5}, InputError),
            ({"alpha": "0.05"}, InputTypeError),
            ({"method": "fisher"}, InputError),
            ({"alternative": "both"}, InputError),
            ({"two_sided": "double"}, InputError),
            ({"correction": "holm"}, InputError),
            ({"variance": "mh"}, InputError),
            ({"grid_step": -0.06}, InputError),
            ({"min_support": 0}, InputError),
            ({"min_support": 2.5}, InputTypeError),
            ({"max_length": 0}, InputError),
            ({"max_length": "2"}, InputTypeError),
            ({"n_jobs": 0}, InputTypeError),
            ({"n_jobs": 1.5}, InputTypeError),
            ({"binarize": "x"}, InputTypeError),
            ({"binarize": True}, InputTypeError),
            ({"binarize": float("nan")}, InputError),
        ],
        ids=str,
    )
    def test_parameters_are_checked_by_fit(self, data, parameters, error):
        X, y, _ = data
        miner = FACS(**parameters)  # never in the constructor
        ((name, value),) = parameters.items()
        with pytest.raises(error, match=f"^{name}={value!r} ".replace("(", r"\(")):
            miner.fit(X, y)
        assert not hasattr(miner, "results_")


class TestWarnings:
    def test_asymptotic_and_unbalanced(self):
        X, y, strata = planted(share=0.1)
        assert y.mean() < 0.25
        with pytest.warns(StatisticalWarning, match=r"chi-squared approximation is too thin") as w:
            FACS(method="asymptotic").fit(X, y, strata=strata)
        assert len(w) == 1
        assert w[0].filename == __file__
        assert 'method="exact"' in str(w[0].message)
        FACS(method="exact").fit(X, y, strata=strata)  # an error here if it warned

    def test_asymptotic_and_balanced(self):
        rng = np.random.default_rng(1)
        n_rows = 600
        X = rng.integers(0, 2, (n_rows, 5))
        y = np.arange(n_rows) % 2
        FACS(method="asymptotic").fit(X, y, strata=rng.integers(0, 3, n_rows))

    def test_an_item_that_is_the_outcome(self, data):
        X, y, _ = data
        leaky = np.column_stack([X, 1 - y])
        with pytest.warns(DataWarning, match="^x6: row by row the same as the target 'y', or") as w:
            FACS().fit(leaky, y)
        assert w[0].filename == __file__


class TestRouting:
    def test_pipeline(self, fitted, data):
        X, y, strata = data
        frame = pd.DataFrame(X, columns=NAMES)
        with sklearn.config_context(enable_metadata_routing=True):
            miner = FACS(alpha=0.2).set_fit_request(strata=True)
            pipeline = make_pipeline(miner, LogisticRegression()).fit(frame, y, strata=strata)
        assert_same_search(pipeline[0], fitted)
        assert pipeline.predict(frame).shape == y.shape
        assert pipeline[:-1].get_feature_names_out().tolist() == (
            fitted.get_feature_names_out().tolist()
        )

    def test_pipeline_without_routing(self, fitted, data):
        X, y, strata = data
        pipeline = make_pipeline(FACS(alpha=0.2), LogisticRegression())
        pipeline.fit(pd.DataFrame(X, columns=NAMES), y, facs__strata=strata)
        assert_same_search(pipeline[0], fitted)

    def test_strata_that_nobody_asked_for_are_an_error(self, data):
        X, y, strata = data
        with sklearn.config_context(enable_metadata_routing=True):
            pipeline = make_pipeline(FACS(alpha=0.2), LogisticRegression())
            with pytest.raises(UnsetMetadataPassedError, match="strata"):
                pipeline.fit(X, y, strata=strata)

    @pytest.mark.parametrize("make_strata", [np.asarray, pd.Series, list], ids=lambda f: f.__name__)
    def test_cross_validate_cuts_the_strata_with_the_rows(self, make_strata):
        X, y, strata = planted(450)
        folds = StratifiedKFold(3)
        with sklearn.config_context(enable_metadata_routing=True):
            miner = FACS(alpha=0.2).set_fit_request(strata=True)
            answer = cross_validate(
                make_pipeline(miner, LogisticRegression()),
                X,
                y,
                cv=folds,
                params={"strata": make_strata(strata)},
                return_estimator=True,
            )
        assert len(answer["estimator"]) == 3
        assert answer["test_score"].min() > 0.5
        for pipeline, (train, _) in zip(answer["estimator"], folds.split(X, y), strict=True):
            expected = FACS(alpha=0.2).fit(X[train], y[train], strata=strata[train])
            assert_same_search(pipeline[0], expected)
            assert len(expected.patterns_) > 0
