"""Figures of the original programs, and of others, on the data they were published with.

The data are not in this repository. `SIGMINE_REFERENCE_DATA` names the folder, by default
``../shared``; without it these tests are skipped.

The settings of the original programs: asymptotic test, variance with n_k, thresholds on the grid of
10 ** (-0.06 j), strata of one class kept. They also print patterns that were testable when they
were met, but are not at the final threshold; those are left out here.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

from sigmine._jit import JIT_ENABLED
from sigmine.association import cmh
from sigmine.files import read_fimi, read_values
from sigmine.problem import build_problem
from sigmine.search import search_patterns
from sigmine.settings import SearchSettings
from sigmine.strata import encode_strata

pytestmark = pytest.mark.reference
compiled = pytest.mark.skipif(not JIT_ENABLED, reason="tens of thousands of nodes")

ORIGINAL = {"method": "asymptotic", "variance": "cochran", "grid_step": 0.06}


def read(folder, items, labels, strata=None):
    """Return (matrix, y, z or None) of transactions with their labels and covariate."""
    matrix, _ = read_fimi(folder / items)
    y = read_values(folder / labels).astype(bool)
    assert matrix.shape[0] == len(y)
    return matrix, y, None if strata is None else read_values(folder / strata)


def mine(matrix, y, strata, *, keep=True, **options):
    problem = build_problem(
        matrix,
        y,
        encode_strata(strata, len(y)),
        item_names=[str(j) for j in range(matrix.shape[1])],
        keep_uninformative=keep,
    )
    return problem, search_patterns(problem, SearchSettings(**options))


def figures(outcome):
    """What the original prints, as it prints it: six digits."""
    return (
        outcome.n_testable,
        f"{outcome.testability_threshold:.6g}",
        f"{outcome.corrected_threshold:.6g}",
        len(outcome.closures),
    )


def make_dataset(reference_data, folder, **options):
    """Run the generator of the synthetic sets; return (matrix, y, z, its description)."""
    script = reference_data / "bench" / "make_dataset.py"
    if not script.is_file():
        pytest.skip(f"no generator {script}")
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    subprocess.run(
        [sys.executable, str(script), str(folder / "set"), *flags], check=True, timeout=120
    )
    description = json.loads((folder / "set.json").read_text())
    # Not from the transactions: an item that no row has would shift the numbers.
    with np.load(folder / "set.npz") as data:
        matrix = np.unpackbits(data["X"], axis=0, count=description["n"]).astype(bool)
        y, z = data["y"].astype(bool), data["z"].astype(np.int64)
    from_text = read(folder, "set.transactions", "set.labels", "set.covariates")
    assert from_text[0].sum() == matrix.sum()
    np.testing.assert_array_equal(from_text[1], y)
    np.testing.assert_array_equal(from_text[2], z)
    return matrix, y, z, description


# ---------------------------------------------------------------------------------------------
# The original's summary, its own example data and synthetic sets
# ---------------------------------------------------------------------------------------------

# (p, K, density, seed): testable, delta_j, alpha / m, significant.
CONFORMANCE = {
    (12, 4, 0.4, 1): (460, "9.54993e-05", "0.000108696", 15),
    (13, 3, 0.5, 2): (953, "4.7863e-05", "5.24659e-05", 0),
    (12, 1, 0.4, 3): (171, "0.000288403", "0.000292398", 3),
    (11, 5, 0.5, 4): (433, "0.000109648", "0.000115473", 0),
    (12, 2, 0.7, 5): (3129, "1.58489e-05", "1.59795e-05", 0),
}


@pytest.mark.parametrize("key", CONFORMANCE, ids=lambda key: "v_{}_{}_{}".format(*key[:2], key[3]))
def test_conformance_sets(key, reference_data, tmp_path):
    p, n_strata, density, seed = key
    matrix, y, z, _ = make_dataset(
        reference_data,
        tmp_path,
        **{"n": 120, "p": p, "K": n_strata, "s": 3, "n_conf": 1},
        **{"qlo": density, "qhi": density, "seed": seed},
    )
    assert figures(mine(matrix, y, z, **ORIGINAL)[1]) == CONFORMANCE[key]


SYNTHETIC = {
    # The original prints 14 for the first.
    "W1_K4": ({"n": 500, "p": 1800, "K": 4, "q": 0.1}, (24974, "1.7378e-06", "2.00208e-06", 12)),
    "M1_K4": ({"n": 500, "p": 250, "K": 4, "q": 0.2}, (58933, "7.58578e-07", "8.48421e-07", 16)),
    "D1_K1": ({"n": 1000, "p": 28, "K": 1, "q": 0.5}, (151849, "2.88403e-07", "3.29274e-07", 830)),
}
# The same of a prototype of the exact test (central, on the grid): testable only; what it printed
# as significant is not filtered either.
SYNTHETIC_EXACT = {"W1_K4": 20455, "M1_K4": 49174, "D1_K1": 198936}


@compiled
@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic_sets(name, reference_data, tmp_path):
    shape, expected = SYNTHETIC[name]
    density = shape["q"]
    matrix, y, z, description = make_dataset(
        reference_data,
        tmp_path,
        **{k: shape[k] for k in ("n", "p", "K")},
        **{"qlo": density, "qhi": density},
    )
    problem, outcome = mine(matrix, y, z, **ORIGINAL)
    assert figures(outcome) == expected
    # The planted combination is found, the confounded ones are not.
    found = [frozenset(problem.item_names[j] for j in closure) for closure in outcome.closures]
    (planted,) = description["sets"]["true"]
    assert any(frozenset(map(str, planted)) <= closed for closed in found)
    for confounded in description["sets"]["conf"]:
        assert frozenset(map(str, confounded)) not in found
    assert mine(matrix, y, z, grid_step=0.06)[1].n_testable == SYNTHETIC_EXACT[name]


def test_tictactoe(reference_data):
    matrix, y, z = read(
        reference_data / "data" / "uci",
        "tictactoe_transactions.dat",
        "tictactoe_labels.dat",
        "tictactoe_covariates.dat",
    )
    problem, outcome = mine(matrix, y, z, **ORIGINAL)
    assert problem.table.sizes.tolist() == [484, 474]
    assert problem.table.case_sizes.tolist() == [165, 167]
    # The original prints 365.
    assert figures(outcome) == (3525, "1.20226e-05", "1.41844e-05", 362)


@compiled
def test_mushroom(reference_data):
    matrix, y, z = read(
        reference_data / "data" / "uci",
        "mushroom_transactions.dat",
        "mushroom_labels.dat",
        "mushroom_covariates.dat",
    )
    problem, outcome = mine(matrix, y, z, **ORIGINAL)
    assert (problem.n_rows, problem.n_cases, problem.table.n_strata) == (8124, 3916, 8)
    # The original prints 66,404.
    assert figures(outcome) == (94910, "5.01187e-07", "5.26815e-07", 66342)


@compiled
def test_plants(reference_data):
    folder = reference_data / "data" / "athaliana_avrB"
    matrix, y, z = read(folder, "avrB.transactions", "avrB.labels", "avrB.covariates")
    problem, outcome = mine(matrix, y, z, **ORIGINAL)
    assert problem.table.sizes.tolist() == [38, 9, 6, 34]
    assert problem.table.case_sizes.tolist() == [16, 3, 6, 7]
    assert figures(outcome) == (312045, "1.44544e-07", "1.60233e-07", 1)
    assert outcome.support.tolist() == outcome.support_cases.tolist() == [[0, 3, 0, 5]]
    (closure,) = outcome.closures
    assert {356, 358, 537, 627} <= {int(problem.item_names[j]) for j in closure}
    p = cmh.pvalue(
        [0, 3, 0, 5], 8, problem.table.sizes, problem.table.case_sizes, variance="cochran"
    )
    assert f"{p:.6g}" == "2.29965e-08"
    # Without the stratum that says nothing itemsets merge that differ only there.
    assert mine(matrix, y, z, keep=False, **ORIGINAL)[1].n_testable == 308545
    # The exact test does not confirm it: that p-value is an artefact of the asymptotic tail.
    exact = mine(matrix, y, z, grid_step=0.06)[1]
    assert exact.n_testable == 119762
    assert f"{exact.corrected_threshold:.2e}" == "4.17e-07"
    assert len(exact.closures) == 0


# ---------------------------------------------------------------------------------------------
# Other programs on labelled sets
# ---------------------------------------------------------------------------------------------

# CASMAP: testable, delta_j, alpha / m, significant; with the covariate, then without.
CASMAP = {
    "syn1": (62977, "7.58578e-07", "7.93941e-07", 1),
    "syn2": (21808, "1.99526e-06", "2.29274e-06", 2),
    "syn3": (15239, "3.01995e-06", "3.28106e-06", 0),
    "mushroom_hab": (88592, "5.01187e-07", "5.64385e-07", 43896),
}
CASMAP_WITHOUT_COVARIATE = {
    "syn2": (20301, "2.29087e-06", "2.46293e-06", 42),
    "syn3": (14062, "3.46737e-06", "3.55568e-06", 0),
    "mushroom_hab": (75358, "6.60693e-07", "6.635e-07", 51534),
}
# Chi-squared test of LAMP-C, one stratum: testable, significant. Its threshold is exact.
LAMP_CHI = {"syn1": (62977, 1), "syn2": (20301, 42), "syn3": (14062, 0)}
# Fisher's test, two-sided, of LAMP-C, LAMP2 and MP-LAMP. They count itemsets by their support, from
# the least on that is testable: the same itemsets, as none here is near all rows.
LAMP_FISHER = {
    "syn1": (62977, 1),
    "syn2": (23256, 40),
    "syn3": (16375, 0),
    "mushroom_hab": (78162, 56283),
}


@pytest.fixture(scope="module")
def labelled(reference_data):
    folder = reference_data / "data" / "peers" / "labelled"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    return {name: read(folder / name, "items.dat", "labels.txt", "cov.txt") for name in CASMAP}


@compiled
@pytest.mark.parametrize("name", CASMAP)
def test_casmap(name, labelled):
    assert figures(mine(*labelled[name], **ORIGINAL)[1]) == CASMAP[name]


@compiled
@pytest.mark.parametrize("name", CASMAP_WITHOUT_COVARIATE)
def test_casmap_without_covariate(name, labelled):
    matrix, y, _ = labelled[name]
    assert figures(mine(matrix, y, None, **ORIGINAL)[1]) == CASMAP_WITHOUT_COVARIATE[name]


@compiled
@pytest.mark.parametrize("name", LAMP_CHI)
def test_lamp_with_the_chi_squared_test(name, labelled):
    matrix, y, _ = labelled[name]
    outcome = mine(matrix, y, None, method="asymptotic", variance="cochran")[1]
    assert (outcome.n_testable, len(outcome.closures)) == LAMP_CHI[name]


@compiled
@pytest.mark.parametrize("name", LAMP_FISHER)
def test_lamp_with_fishers_test(name, labelled):
    matrix, y, _ = labelled[name]
    outcome = mine(matrix, y, None, two_sided="minlike")[1]
    assert (outcome.n_testable, len(outcome.closures)) == LAMP_FISHER[name]


@compiled
@pytest.mark.parametrize(
    ("variance", "n_testable", "corrected"),
    [("cochran", 22269, "2.24527e-06"), ("mantel-haenszel", 22092, "2.26326e-06")],
)
def test_exact_threshold_against_an_oracle(variance, n_testable, corrected, labelled):
    # All 412,766 closed sets with at least 3 rows were listed for this, by another program.
    outcome = mine(*labelled["syn2"], method="asymptotic", variance=variance)[1]
    assert outcome.n_testable == n_testable
    assert f"{outcome.corrected_threshold:.6g}" == corrected
    assert len(outcome.closures) == 1
