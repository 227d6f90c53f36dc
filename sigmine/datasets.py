"""Real tables that come inside the dependencies, ready to be mined.

The data are read from the installed packages statsmodels and scikit-learn; nothing is downloaded.
Codes are replaced by the labels of the code books that statsmodels prints
(``statsmodels.api.datasets.fair.NOTE`` and so on), so that patterns can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .exceptions import InputError, SigmineError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Dataset",
    "available",
    "load",
    "load_anes96",
    "load_breast_cancer",
    "load_china_smoking",
    "load_fair",
    "load_randhie",
]


@dataclass(frozen=True)
class Dataset:
    """A table with the question that is asked of it.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row a subject; no missing values.
    target : str
        Column of the outcome: boolean, True for a case.
    strata : list of str
        Columns of the covariates; empty if there are none.
    name : str
        Name for `load`.
    description : str
        What the rows, the outcome, the covariates and the other columns are.
    source : str
        Where the data come from.

    Examples
    --------
    >>> data = load_china_smoking()
    >>> data.target, data.strata, data.frame.shape
    ('lung_cancer', ['city'], (8419, 3))
    """

    frame: pd.DataFrame
    target: str
    strata: list[str]
    name: str
    description: str
    source: str


def _read(name: str, **options: Any) -> pd.DataFrame:
    """Read a CSV of statsmodels without importing it, which takes a second."""
    import pandas as pd

    spec = find_spec("statsmodels")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        path = Path(folder) / "datasets" / name / f"{name}.csv"
        if path.is_file():
            return pd.read_csv(path, **options)
    raise SigmineError(
        f"the table {name!r} was not found in the package statsmodels ({folders or 'missing'}). "
        "Install it again: pip install --force-reinstall statsmodels"
    )


def _labelled(codes: Any, labels: Mapping[Any, str]) -> Any:
    """Replace codes by labels, as a categorical in the order of the code book."""
    import pandas as pd

    # Two codes may share a label, so that bands are made of codes.
    order = list(dict.fromkeys(labels.values()))
    texts = codes.map(dict(labels))
    if texts.isna().any():
        unknown = sorted(set(codes[texts.isna()]))
        raise SigmineError(
            f"column {codes.name!r} has codes without a label: {unknown}. The installed "
            "package has other data than expected; report this."
        )
    return pd.Categorical(texts, categories=order, ordered=True)


_FAIR_JOBS = {
    1: "student",
    2: "farming or unskilled",
    3: "white-collar",
    4: "teaching/nursing/arts/skilled",
    5: "managerial or business",
    6: "professional with advanced degree",
}


def load_fair() -> Dataset:
    """Load a survey of 6,366 married women, asking who had an affair.

    Returns
    -------
    Dataset
        Target ``affair`` (any time spent in affairs, 32 % of the women); strata ``age`` and
        ``years_married`` in bands, 11 of them, all informative.

    Notes
    -----
    The survey was of readers of a magazine in 1974 and codes most answers by the middle of an
    interval (age 22, 27, ...; 2.5 years married). The bands keep these codes together: age under
    25 (17.5, 22), 25 to 29 (27), 30 to 34 (32), 35 and over (37, 42); married under 5 years
    (0.5, 2.5), 5 to 10 (6, 9), over 10 (13, 16.5, 23). Both are
    linked with affairs and with nearly every answer, which makes them confounders.

    References
    ----------
    .. [1] R. C. Fair, "A Theory of Extramarital Affairs", Journal of Political Economy 86 (1978),
       45-61. Data and code book: ``statsmodels.api.datasets.fair``.
    """
    import pandas as pd

    raw = _read("fair")
    frame = pd.DataFrame(
        {
            "affair": raw["affairs"] > 0,
            "age": _labelled(
                raw["age"],
                {
                    17.5: "under 25",
                    22: "under 25",
                    27: "25 to 29",
                    32: "30 to 34",
                    37: "35 and over",
                    42: "35 and over",
                },
            ),
            "years_married": _labelled(
                raw["yrs_married"],
                {0.5: "under 5", 2.5: "under 5", 6: "5 to 10", 9: "5 to 10"}
                | dict.fromkeys((13, 16.5, 23), "over 10"),
            ),
            "marriage": _labelled(
                raw["rate_marriage"],
                {1: "very poor", 2: "poor", 3: "fair", 4: "good", 5: "very good"},
            ),
            "children": _labelled(
                raw["children"], {0: "0", 1: "1", 2: "2", 3: "3", 4: "4", 5.5: "over 4"}
            ),
            "religious": _labelled(
                raw["religious"], {1: "not", 2: "mildly", 3: "fairly", 4: "strongly"}
            ),
            "education": _labelled(
                raw["educ"],
                {
                    9: "grade school",
                    12: "high school",
                    14: "some college",
                    16: "college graduate",
                    17: "some graduate school",
                    20: "advanced degree",
                },
            ),
            "occupation": _labelled(raw["occupation"], _FAIR_JOBS),
            "husband_occupation": _labelled(raw["occupation_husb"], _FAIR_JOBS),
        }
    )
    return Dataset(
        frame=frame,
        target="affair",
        strata=["age", "years_married"],
        name="fair",
        description=(
            "Survey of 6,366 married women by a magazine in 1974. Outcome: any time spent in "
            "extramarital affairs. Covariates: age and years of marriage, in bands. Features: how "
            "she rates her marriage, number of children, how religious she is, education, her "
            "occupation and her husband's."
        ),
        source=(
            "R. C. Fair (1978), A Theory of Extramarital Affairs, Journal of Political Economy 86, "
            "45-61; table 'fair' of statsmodels."
        ),
    )


def load_anes96() -> Dataset:
    """Load an election study of 944 voters, asking who meant to vote for Dole.

    Returns
    -------
    Dataset
        Target ``vote_dole`` (42 %, the others intended to vote for Clinton); strata ``party``,
        the party that the voter identifies with, 7 levels, all informative.

    Notes
    -----
    The party explains most of the vote; the strata ask what goes with the vote among voters
    of the same party. Education and the three left-right scales (the voter's own, and where
    the voter places Clinton and Dole) are labelled; age, income, the population of the place
    (in thousands) and the days a week with TV news are numbers. Income is the code of a
    bracket, from 1 (under $3,000) to 24 ($105,000 and over).

    References
    ----------
    .. [1] American National Election Studies, 1996. Data and code book:
       ``statsmodels.api.datasets.anes96``.
    """
    import pandas as pd

    raw = _read("anes96", sep="\t", quotechar="'")
    leanings = {
        1: "extremely liberal",
        2: "liberal",
        3: "slightly liberal",
        4: "moderate",
        5: "slightly conservative",
        6: "conservative",
        7: "extremely conservative",
    }
    parties = {
        0: "strong Democrat",
        1: "weak Democrat",
        2: "independent Democrat",
        3: "independent",
        4: "independent Republican",
        5: "weak Republican",
        6: "strong Republican",
    }
    schools = {
        1: "1-8 grades",
        2: "some high school",
        3: "high school graduate",
        4: "some college",
        5: "college degree",
        6: "master's degree",
        7: "PhD",
    }
    frame = pd.DataFrame(
        {
            "vote_dole": raw["vote"] == 1,
            "party": _labelled(raw["PID"], parties),
            "own_view": _labelled(raw["selfLR"], leanings),
            "clinton_seen_as": _labelled(raw["ClinLR"], leanings),
            "dole_seen_as": _labelled(raw["DoleLR"], leanings),
            "education": _labelled(raw["educ"], schools),
            "age": raw["age"],
            "income_code": raw["income"],
            "population_thousands": raw["popul"],
            "tv_news_days": raw["TVnews"],
        }
    )
    return Dataset(
        frame=frame,
        target="vote_dole",
        strata=["party"],
        name="anes96",
        description=(
            "944 voters of the American National Election Study of 1996. Outcome: intends to vote "
            "for Dole rather than Clinton. Covariate: party identification. Features: political "
            "views, education, age, income bracket, size of the place, days with TV news."
        ),
        source="American National Election Studies (1996); table 'anes96' of statsmodels.",
    )


def load_randhie() -> Dataset:
    """Load the RAND health insurance experiment, asking who saw a doctor at all.

    Returns
    -------
    Dataset
        Target ``any_visit`` (at least one outpatient visit, 69 % of 20,190 rows); strata
        ``health`` (self-rated, 4 levels) and ``limited`` (has a physical limitation), 8
        strata.

    Notes
    -----
    A row is one year of one person, and persons have several years: rows are not independent,
    so that p-values come out too small. Treat the table as a large test, not as evidence. The share
    of coinsurance is given back from its logarithm and rounded to whole percent. The
    limitation is 0 or 1 but for some imputed fractions; at least 0.5 counts as limited. The
    logarithms of the participation payment and of the maximum expenditure say whether they are
    zero: columns ``incentive_paid`` and ``expenditure_limit``.

    References
    ----------
    .. [1] A. C. Cameron and P. K. Trivedi, "Microeconometrics: Methods and Applications",
       Cambridge University Press, 2005. Data and code book: ``statsmodels.api.datasets.randhie``.
    """
    import pandas as pd

    raw = _read("randhie")
    # The three columns are dummies of one answer; none of them set means excellent health.
    health = raw["hlthg"] + 2 * raw["hlthf"] + 3 * raw["hlthp"]
    coinsurance = np.rint(np.expm1(raw["lncoins"])).astype(int)
    frame = pd.DataFrame(
        {
            "any_visit": raw["mdvis"] > 0,
            "health": _labelled(health, {0: "excellent", 1: "good", 2: "fair", 3: "poor"}),
            "limited": raw["physlm"] >= 0.5,
            "coinsurance_percent": coinsurance,
            "individual_deductible": raw["idp"] == 1,
            "incentive_paid": raw["lpi"] > 0,
            "expenditure_limit": raw["fmde"] > 0,
            "chronic_diseases": raw["disea"],
        }
    )
    return Dataset(
        frame=frame,
        target="any_visit",
        strata=["health", "limited"],
        name="randhie",
        description=(
            "20,190 person-years of the RAND health insurance experiment; rows of one person are "
            "not independent. Outcome: any outpatient visit in the year. Covariates: self-rated "
            "health and physical limitation. Features: share of coinsurance, deductible plan, "
            "participation payment, expenditure limit, index of chronic diseases."
        ),
        source=(
            "RAND Corporation; A. C. Cameron and P. K. Trivedi (2005), Microeconometrics; table "
            "'randhie' of statsmodels."
        ),
    )


def load_china_smoking() -> Dataset:
    """Load eight studies of smoking and lung cancer in Chinese cities.

    Returns
    -------
    Dataset
        Target ``lung_cancer``; stratum ``city``, 8 levels; one feature, ``smoking``. One
        row for each of the 8,419 persons behind the eight 2 x 2 tables.

    Notes
    -----
    The classic example of the Cochran-Mantel-Haenszel test: a search of this table is that one
    test. The spelling "Nanjng" of the file is corrected.

    References
    ----------
    .. [1] Z. Liu, "Smoking and Lung Cancer Incidence in China", International Journal of
       Epidemiology 21 (1992), 197-201, as cited by ``statsmodels.api.datasets.china_smoking``.
    """
    import pandas as pd

    raw = _read("china_smoking")
    parts = []
    for smoking in (True, False):
        for cancer in (True, False):
            column = f"smoking_{'yes' if smoking else 'no'}_cancer_{'yes' if cancer else 'no'}"
            cities = raw["Location"].replace("Nanjng", "Nanjing").repeat(raw[column])
            parts.append(pd.DataFrame({"lung_cancer": cancer, "city": cities, "smoking": smoking}))
    return Dataset(
        frame=pd.concat(parts, ignore_index=True),
        target="lung_cancer",
        strata=["city"],
        name="china_smoking",
        description=(
            "8,419 persons in eight Chinese cities. Outcome: lung cancer. Covariate: city. "
            "Feature: smoking."
        ),
        source=(
            "Z. Liu (1992), Smoking and Lung Cancer Incidence in China, International Journal of "
            "Epidemiology 21, 197-201; table 'china_smoking' of statsmodels."
        ),
    )


def load_breast_cancer() -> Dataset:
    """Load measurements of 569 breast tumours, asking which are malignant.

    Returns
    -------
    Dataset
        Target ``malignant`` (37 %); no strata; ten numeric features.

    Notes
    -----
    Of the 30 columns of the table, the ten means are kept: the standard errors and the worst
    values repeat the same measurements, and their combinations say little that is new.

    References
    ----------
    .. [1] W. N. Street, W. H. Wolberg and O. L. Mangasarian, "Nuclear Feature Extraction for
       Breast Tumor Diagnosis", Proc. SPIE 1905 (1993), 861-870,
       `doi:10.1117/12.148698 <https://doi.org/10.1117/12.148698>`_.
    """
    import pandas as pd
    from sklearn.datasets import load_breast_cancer as load_raw

    raw = load_raw()
    names = [name for name in map(str, raw.feature_names) if name.startswith("mean ")]
    values = pd.DataFrame(raw.data, columns=[str(name) for name in raw.feature_names])
    frame = values[names].rename(columns=lambda name: name.removeprefix("mean ").replace(" ", "_"))
    frame.insert(0, "malignant", raw.target_names[raw.target] == "malignant")
    return Dataset(
        frame=frame,
        target="malignant",
        strata=[],
        name="breast_cancer",
        description=(
            "569 breast tumours. Outcome: malignant. No covariate. Features: the means of ten "
            "measurements of cell nuclei in an image of a fine needle aspirate."
        ),
        source=(
            "Breast Cancer Wisconsin (Diagnostic), Street, Wolberg and Mangasarian (1993), UCI "
            "Machine Learning Repository; table 'breast_cancer' of scikit-learn."
        ),
    )


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "anes96": load_anes96,
    "breast_cancer": load_breast_cancer,
    "china_smoking": load_china_smoking,
    "fair": load_fair,
    "randhie": load_randhie,
}


def available() -> tuple[str, ...]:
    """Return the names that `load` knows, sorted.

    Returns
    -------
    tuple of str
        One name a loader.

    Examples
    --------
    >>> available()
    ('anes96', 'breast_cancer', 'china_smoking', 'fair', 'randhie')
    """
    return tuple(sorted(_LOADERS))


def load(name: str) -> Dataset:
    """Load a data set by its name.

    Parameters
    ----------
    name : str
        One of `available`.

    Returns
    -------
    Dataset
        What the loader of that name returns.

    Raises
    ------
    InputError
        If there is no data set of that name.
    """
    if name not in _LOADERS:
        raise InputError(f"there is no data set {name!r}; choose one of {', '.join(available())}.")
    return _LOADERS[name]()
