"""The tables inside the dependencies: equal to their source, labelled, and ready to be mined."""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from sigmine import datasets
from sigmine.exceptions import InputError, SigmineError
from sigmine.preprocessing import encode_target, make_items
from sigmine.strata import encode_strata, require_informative


@pytest.fixture(scope="module")
def loaded():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {name: datasets.load(name) for name in datasets.available()}


@pytest.mark.parametrize("name", datasets.available())
def test_ready_for_mining(loaded, name):
    data = loaded[name]
    assert data.name == name
    frame = data.frame
    assert not frame.isna().any().any()
    assert frame.columns.is_unique
    assert isinstance(frame.index, pd.RangeIndex)
    cases, classes = encode_target(frame[data.target], name=data.target)
    assert classes == ("False", "True")
    strata = encode_strata(frame[data.strata], len(frame))
    _, _, informative = require_informative(strata, cases)
    assert informative.all()
    items = make_items(frame, exclude=[data.target, *data.strata])
    assert items.dropped == ()
    assert items.rows_kept.all()
    assert not any("," in label for column in frame for label in
                   getattr(frame[column].dtype, "categories", []))  # fmt: skip
    # The description speaks of this table.
    assert f"{len(frame):,}" in data.description
    assert data.source


@pytest.mark.parametrize(
    ("name", "shape", "target", "n_cases", "strata", "n_strata", "n_items"),
    [
        ("fair", (6366, 9), "affair", 2053, ["age", "years_married"], 11, 33),
        ("anes96", (944, 10), "vote_dole", 393, ["party"], 7, 44),
        ("randhie", (20190, 8), "any_visit", 13882, ["health", "limited"], 8, 12),
        ("china_smoking", (8419, 3), "lung_cancer", 4081, ["city"], 8, 1),
        ("breast_cancer", (569, 11), "malignant", 212, [], 1, 40),
    ],
)
def test_sizes(loaded, name, shape, target, n_cases, strata, n_strata, n_items):
    data = loaded[name]
    assert data.frame.shape == shape
    assert data.target == target
    assert data.frame[target].sum() == n_cases
    assert data.strata == strata
    assert encode_strata(data.frame[strata], shape[0]).n_levels == n_strata
    assert len(make_items(data.frame, exclude=[target, *strata]).names) == n_items


def source(name):
    """The table as statsmodels' own loader gives it."""
    import statsmodels.api as sm

    return getattr(sm.datasets, name).load_pandas().data


def test_fair_is_the_table_of_statsmodels(loaded):
    raw, frame = source("fair"), loaded["fair"].frame
    np.testing.assert_array_equal(frame["affair"], raw["affairs"] > 0)
    for column, of_raw in [
        ("marriage", "rate_marriage"),
        ("children", "children"),
        ("religious", "religious"),
        ("education", "educ"),
        ("occupation", "occupation"),
        ("husband_occupation", "occupation_husb"),
    ]:
        # Labels stand for the codes one to one, in the same order.
        codes = np.unique(raw[of_raw], return_inverse=True)[1]
        np.testing.assert_array_equal(frame[column].cat.codes, codes)
    bands = pd.cut(raw["age"], [0, 24, 29, 34, 99], labels=False)
    np.testing.assert_array_equal(frame["age"].cat.codes, bands)
    bands = pd.cut(raw["yrs_married"], [0, 5, 10, 99], labels=False)
    np.testing.assert_array_equal(frame["years_married"].cat.codes, bands)


def test_fair_labels_are_those_of_the_code_book(loaded):
    import statsmodels.api as sm

    note = " ".join(sm.datasets.fair.NOTE.split())
    for column in ("marriage", "religious", "education"):
        for label in loaded["fair"].frame[column].cat.categories:
            assert f"= {label}" in note


def test_anes96_is_the_table_of_statsmodels(loaded):
    raw, frame = source("anes96"), loaded["anes96"].frame
    np.testing.assert_array_equal(frame["vote_dole"], raw["vote"] == 1)
    for column, of_raw, first in [
        ("party", "PID", 0),
        ("own_view", "selfLR", 1),
        ("clinton_seen_as", "ClinLR", 1),
        ("dole_seen_as", "DoleLR", 1),
        ("education", "educ", 1),
    ]:
        np.testing.assert_array_equal(frame[column].cat.codes + first, raw[of_raw])
    for column, of_raw in [
        ("age", "age"),
        ("income_code", "income"),
        ("population_thousands", "popul"),
        ("tv_news_days", "TVnews"),
    ]:
        np.testing.assert_array_equal(frame[column], raw[of_raw])


def test_randhie_is_the_table_of_statsmodels(loaded):
    raw, frame = source("randhie"), loaded["randhie"].frame
    np.testing.assert_array_equal(frame["any_visit"], raw["mdvis"] > 0)
    for label, dummy in [("good", "hlthg"), ("fair", "hlthf"), ("poor", "hlthp")]:
        np.testing.assert_array_equal(frame["health"] == label, raw[dummy] == 1)
    assert (raw[["hlthg", "hlthf", "hlthp"]].sum(axis=1) <= 1).all()
    np.testing.assert_allclose(np.log1p(frame["coinsurance_percent"]), raw["lncoins"], atol=1e-4)
    np.testing.assert_array_equal(frame["individual_deductible"], raw["idp"] == 1)
    assert set(frame["coinsurance_percent"]) == {0, 25, 50, 95, 100}


def test_china_smoking_adds_up_to_the_published_tables(loaded):
    raw, frame = source("china_smoking"), loaded["china_smoking"].frame
    for (city, counts), name in zip(raw.iterrows(), raw.index, strict=True):
        rows = frame[frame["city"] == name.replace("Nanjng", "Nanjing")]
        table = pd.crosstab(rows["smoking"], rows["lung_cancer"])
        assert table.loc[True, True] == counts["smoking_yes_cancer_yes"], city
        assert table.loc[True, False] == counts["smoking_yes_cancer_no"], city
        assert table.loc[False, True] == counts["smoking_no_cancer_yes"], city
        assert table.loc[False, False] == counts["smoking_no_cancer_no"], city


def test_breast_cancer_is_the_table_of_scikit_learn(loaded):
    from sklearn.datasets import load_breast_cancer

    raw, frame = load_breast_cancer(), loaded["breast_cancer"].frame
    np.testing.assert_array_equal(frame["malignant"], raw.target == 0)
    np.testing.assert_array_equal(frame.iloc[:, 1:], raw.data[:, :10])
    assert [f"mean {name.replace('_', ' ')}" for name in frame.columns[1:]] == list(
        raw.feature_names[:10]
    )


def test_unknown_name():
    with pytest.raises(InputError, match="no data set 'iris'; choose one of anes96, breast_cancer"):
        datasets.load("iris")


def test_a_table_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    with pytest.raises(SigmineError, match="'fair' was not found in the package statsmodels"):
        datasets.load_fair()


def test_a_table_with_other_codes(monkeypatch):
    read = datasets._read
    monkeypatch.setattr(
        datasets, "_read", lambda name: read(name).assign(religious=lambda f: f["religious"] + 1)
    )
    with pytest.raises(SigmineError, match=r"'religious' has codes without a label: \[5\]"):
        datasets.load_fair()


def test_the_demo_data_load_without_statsmodels():
    # Importing statsmodels takes longer than the search of the demo.
    code = (
        "from sigmine.datasets import load_fair; load_fair(); import sys;"
        "print(sorted({'statsmodels', 'scipy.stats', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]", run.stderr
