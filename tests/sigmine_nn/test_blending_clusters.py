"""Clusters of criteria: slow twins, all partitions, planted clusters, and what is not defined."""

import numpy as np
import pytest
from scipy.cluster import hierarchy

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn.criteria import Criterion
from sigmine_nn.methods import cluster_criteria
from sigmine_nn.methods.blending.matrix import CriteriaMatrix, standard_ranks
from tests import naive_blending as naive
from tests.score_tables import made_units


def of_scores(scores, *sizes):
    scores = np.asarray(scores, dtype=float)
    units = made_units(*(sizes or (scores.shape[1],)))
    criteria = tuple(Criterion(f"c{i}", lambda s: None, "made", "made") for i in range(len(scores)))
    return CriteriaMatrix(units, criteria, scores)


def related(seed, m=7, n=40):
    """Scores of which some are near each other; distances without ties."""
    rng = np.random.default_rng(seed)
    sources = rng.normal(size=(3, n))
    return sources[rng.integers(3, size=m)] + 0.7 * rng.normal(size=(m, n))


def sets(found):
    return {frozenset(map(int, np.flatnonzero(found.labels == k))) for k in set(found.labels)}


@pytest.mark.parametrize("seed", range(12))
def test_average_linkage_equals_its_twin(seed):
    scores = related(seed)
    distance = naive.distances(scores.tolist())
    for k in range(1, 8):
        found = cluster_criteria(of_scores(scores), k).layers["g0"]
        assert sets(found) == naive.average_linkage(distance, k)
        assert found.labels.tolist()[0] == 0  # in order of appearance
        for members, medoid in zip(found.members, found.medoids, strict=True):
            rows = [int(name[1:]) for name in members]
            assert medoid == f"c{naive.medoid(distance, rows)}"
    by_scipy = hierarchy.fcluster(found.linkage, 3, criterion="maxclust")
    three = cluster_criteria(of_scores(scores), 3).layers["g0"].labels
    assert len(set(zip(by_scipy, three, strict=True))) == 3


@pytest.mark.parametrize("seed", range(6))
def test_the_number_of_clusters_is_that_of_the_best_silhouette(seed):
    scores = related(seed)
    distance = naive.distances(scores.tolist())
    found = cluster_criteria(of_scores(scores), max_clusters=5).layers["g0"]
    assert sorted(found.silhouettes) == [2, 3, 4, 5]
    for k, value in found.silhouettes.items():
        clusters = list(naive.average_linkage(distance, k))
        assert value == pytest.approx(naive.silhouette(distance, clusters))
    assert len(found.medoids) == naive.best_number(distance, 5)
    assert found.silhouette == max(found.silhouettes.values())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [2, 3])
def test_means_are_the_best_of_all_partitions(seed, k):
    scores = related(seed)
    points = standard_ranks(scores).tolist()
    found = cluster_criteria(of_scores(scores), k, method="kmeans").layers["g0"]
    best = min(naive.partitions(list(range(7)), k), key=lambda p: naive.squares_within(points, p))
    assert sets(found) == {frozenset(part) for part in best}


@pytest.mark.parametrize("method", ["average", "kmeans"])
def test_planted_clusters_are_found(method):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 30))
    near = [first + 0.1 * rng.normal(size=30) for _ in range(3)]
    other = [np.exp(second) + 0.1 * rng.normal(size=30) for _ in range(2)]
    # The opposite order is far, though it is as well known.
    opposite = [-first, -first + 0.1 * rng.normal(size=30)]
    matrix = of_scores([near[0], other[0], near[1], opposite[0], other[1], near[2], opposite[1]])
    found = cluster_criteria(matrix, method=method)
    assert found.layers["g0"].members == (("c0", "c2", "c5"), ("c1", "c4"), ("c3", "c6"))
    assert found.together(["c0", "c5"]) == {"g0": True}
    assert found.together(["c0", "c3"]) == {"g0": False}
    frame = found.to_frame()
    assert frame["cluster"].tolist() == [1, 2, 1, 3, 2, 1, 3]
    assert frame["medoid"].sum() == 3


def test_layers_are_clustered_by_themselves():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 24))
    scores = np.stack([one, one, other, other])
    scores[[1, 2], 12:] = scores[[2, 1], 12:]  # partners change in the second layer
    found = cluster_criteria(of_scores(scores, 12, 12), 2)
    assert found.layers["g0"].members == (("c0", "c1"), ("c2", "c3"))
    assert found.layers["g1"].members == (("c0", "c2"), ("c1", "c3"))
    assert found.together(["c0", "c1"]) == {"g0": True, "g1": False}


@pytest.mark.parametrize("method", ["average", "kmeans"])
def test_equal_and_constant_criteria(method):
    matrix = of_scores([[1, 2, 3, 4], [2, 4, 6, 8], [1, 1, 1, 1], [4, 3, 2, 1], [0, 0, 0, 0]])
    found = cluster_criteria(matrix, 3, method=method).layers["g0"]
    assert found.labels[0] == found.labels[1]
    assert not cluster_criteria(matrix, 4, method=method).together(["c0", "c3"])["g0"]
    frame = cluster_criteria(matrix, 2, method=method).to_frame()
    assert frame["constant"].tolist() == [False, False, True, False, True]


def test_means_find_no_more_clusters_than_there_are_orders():
    matrix = of_scores([[1, 2, 3], [2, 4, 6], [3, 2, 1], [30, 20, 10]])
    found = cluster_criteria(matrix, 4, method="kmeans").layers["g0"]
    assert found.members == (("c0", "c1"), ("c2", "c3"))


def test_few_criteria():
    one = cluster_criteria(of_scores([[1, 2, 3]])).layers["g0"]
    assert (one.members, one.medoids, one.linkage.shape) == ((("c0",),), ("c0",), (0, 4))
    assert np.isnan(one.silhouette)
    two = cluster_criteria(of_scores([[1, 2, 3], [1, 2, 4]])).layers["g0"]
    assert two.members == (("c0",), ("c1",))
    more = cluster_criteria(of_scores([[1, 2, 3], [1, 2, 4]]), 5).layers["g0"]
    assert more.members == two.members


def test_undefined_criteria_are_in_no_cluster():
    scores = related(0, m=5, n=30)
    scores[2, 3] = np.nan
    found = cluster_criteria(of_scores(scores, 15, 15), 2)
    assert found.layers["g0"].names == ("c0", "c1", "c3", "c4")
    assert found.layers["g1"].names == ("c0", "c1", "c2", "c3", "c4")
    frame = found.to_frame().set_index(["layer", "criterion"])["cluster"]
    assert frame.isna().sum() == 1
    assert frame.isna()["g0", "c2"]


def test_the_seed_of_means_is_a_seed():
    matrix = of_scores(np.random.default_rng(0).normal(size=(10, 12)))
    first, second = (cluster_criteria(matrix, 4, method="kmeans", seed=3) for _ in range(2))
    assert (first.layers["g0"].labels == second.layers["g0"].labels).all()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"method": "ward"}, InputError, "method='ward' is not known"),
        ({"n_clusters": 0}, InputError, "n_clusters=0 must be at least 1"),
        ({"n_clusters": 2.0}, InputTypeError, "whole number"),
        ({"max_clusters": 1}, InputError, "max_clusters=1"),
        ({"seed": -1}, InputError, "seed=-1"),
    ],
)
def test_refused(options, error, match):
    with pytest.raises(error, match=match):
        cluster_criteria(of_scores([[1, 2], [2, 1]]), **options)


def test_a_layer_without_criteria_is_named():
    with pytest.raises(InputError, match="none of c0 is defined on layer 'g1'"):
        cluster_criteria(of_scores([[1, 2, np.nan]], 2, 1))
    with pytest.raises(InputError, match="'x' is not in the matrix"):
        cluster_criteria(of_scores([[1, 2, 3]])).together(["x"])
