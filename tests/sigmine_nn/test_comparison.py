"""Two networks on the same data: against statsmodels, scipy, published figures and simulations."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from sigmine.exceptions import InputError, InputTypeError
from sigmine_nn.comparison import compare_models, mcnemar, newcombe_interval, paired_bootstrap
from sigmine_nn.exceptions import CalibrationError
from sigmine_nn.risks import RiskOf, split_data
from tests.score_tables import made_batches, small_network


def paired(both, n_after, n_before, neither):
    """Truth values with these counts."""
    before = [1] * both + [0] * n_after + [1] * n_before + [0] * neither
    after = [1] * both + [1] * n_after + [0] * n_before + [0] * neither
    return before, after


class TestMcNemar:
    @given(st.tuples(*[st.integers(0, 30)] * 4).filter(any))
    def test_as_statsmodels(self, counts):
        both, n_after, n_before, neither = counts
        found = mcnemar(*paired(*counts))
        assert (found.n_before, found.n_after) == (n_before, n_after)
        wanted = statsmodels_mcnemar([[both, n_after], [n_before, neither]], exact=True).pvalue
        assert found.pvalue == pytest.approx(min(1.0, wanted) if n_after + n_before else 1.0)

    @given(st.integers(0, 30), st.integers(0, 30))
    def test_one_sided(self, n_after, n_before):
        less = mcnemar(*paired(1, n_after, n_before, 1), alternative="less").pvalue
        n = n_after + n_before
        wanted = sum(math.comb(n, k) for k in range(n_after + 1)) / 2**n
        assert less == pytest.approx(wanted)

    @pytest.mark.parametrize(
        ("before", "after", "message"),
        [
            ([True], [True, False], r"shapes \(1,\) and \(2,\)"),
            ([], [], "give a truth value"),
            ([0.5, 1], [1, 0], "other values than 0 and 1"),
            ([[True]], [[True]], "in one dimension"),
        ],
    )
    def test_bad_input(self, before, after, message):
        for function in (mcnemar, newcombe_interval):
            with pytest.raises(InputError, match=message):
                function(before, after)
        with pytest.raises(InputError, match="alternative='more' is not known"):
            mcnemar([True], [False], alternative="more")


class TestNewcombe:
    def test_the_paper(self):
        # Newcombe (1998), method 10, the table (36, 12, 2, 0).
        low, high = newcombe_interval(*paired(36, 12, 2, 0))
        assert (round(low, 4), round(high, 4)) == (0.0569, 0.3404)

    def test_equal_classifiers(self):
        low, high = newcombe_interval(*paired(30, 0, 0, 0))
        assert low == pytest.approx(-high)
        assert 0 < high < 0.15

    @given(st.tuples(*[st.integers(0, 30)] * 4).filter(any), st.sampled_from([0.8, 0.95, 0.99]))
    def test_theorems(self, counts, level):
        before, after = paired(*counts)
        low, high = newcombe_interval(before, after, level)
        difference = float(np.mean(after) - np.mean(before))
        assert -1 <= low <= difference + 1e-12
        assert difference - 1e-12 <= high <= 1
        # Swapped networks swap the ends.
        assert newcombe_interval(after, before, level) == pytest.approx((-high, -low))
        wider = newcombe_interval(before, after, 0.999)
        assert wider[0] <= low + 1e-12
        assert high <= wider[1] + 1e-12

    @pytest.mark.statistical
    def test_coverage(self):
        # 2,000 tables of 60 samples; coverage 0.95 would leave [0.93, 0.97] with probability 4e-5.
        rng = np.random.default_rng(3)
        p = [0.6, 0.15, 0.08, 0.17]
        tables = rng.multinomial(60, p, size=2000)
        ends = {tuple(t): newcombe_interval(*paired(*t)) for t in np.unique(tables, axis=0)}
        held = [ends[tuple(t)][0] <= 0.07 <= ends[tuple(t)][1] for t in tables]
        assert 0.93 <= np.mean(held) <= 0.975


class TestPairedBootstrap:
    @pytest.mark.parametrize("ratio", [False, True])
    def test_as_scipy(self, ratio):
        rng = np.random.default_rng(0)
        if ratio:  # an error rate over words: errors and words of every utterance
            words = rng.integers(5, 30, size=80)
            first = np.stack([rng.binomial(words, 0.1), words], axis=1)
            second = np.stack([rng.binomial(words, 0.15), words], axis=1)

            def metric(values):
                return float(values[:, 0].sum() / values[:, 1].sum())

        else:
            first = rng.gamma(1.0, size=80)
            second = first + rng.gamma(0.5, size=80)
            metric = None
        found = paired_bootstrap(first, second, metric, n_resamples=4000, seed=1)
        of = metric or np.mean
        wanted = stats.bootstrap(
            (np.arange(80),),
            lambda rows: of(second[rows]) - of(first[rows]),
            vectorized=False, n_resamples=4000, method="BCa", rng=np.random.default_rng(2),
        )  # fmt: skip
        assert found.difference == of(second) - of(first)
        interval = wanted.confidence_interval
        # Ends of two runs of 4,000 resamples: standard error of each about 3 % of the width.
        width = interval.high - interval.low
        assert found.ci_low == pytest.approx(interval.low, abs=0.12 * width)
        assert found.ci_high == pytest.approx(interval.high, abs=0.12 * width)
        assert found.standard_error == pytest.approx(wanted.standard_error, rel=0.08)

    def test_deterministic(self):
        first, second = np.arange(9.0), np.arange(9.0) ** 2
        assert paired_bootstrap(first, second, seed=1) == paired_bootstrap(first, second, seed=1)
        assert paired_bootstrap(first, second, seed=1) != paired_bootstrap(first, second, seed=2)

    def test_the_same_network(self):
        found = paired_bootstrap(np.arange(9.0), np.arange(9.0))
        assert (found.difference, found.ci_low, found.ci_high) == (0, 0, 0)

    def test_bad_input(self):
        with pytest.raises(InputError, match=r"shapes \(3,\) and \(2,\)"):
            paired_bootstrap([1, 2, 3], [1, 2])
        with pytest.raises(InputError, match="at least 2"):
            paired_bootstrap([1], [1])


class TestCompareModels:
    def test_against_the_networks_by_hand(self):
        before, _ = small_network(0)
        after, _ = small_network(1)
        batches = made_batches(4)
        x, y = (torch.cat(part) for part in zip(*batches, strict=True))
        found = compare_models(before, after, batches)
        right = [(model(x).argmax(dim=1) == y).numpy() for model in (before, after)]
        assert found.n_samples == 80
        assert found.accuracy_before == pytest.approx(right[0].mean())
        assert found.accuracy_after == pytest.approx(right[1].mean())
        assert found.test == mcnemar(*right)
        assert (found.accuracy_low, found.accuracy_high) == newcombe_interval(*right)
        assert found.risk.difference == pytest.approx(right[0].mean() - right[1].mean())
        loss = compare_models(before, after, batches, metric="loss", loss="cross_entropy")
        mean = [torch.nn.functional.cross_entropy(m(x), y).item() for m in (before, after)]
        assert loss.risk_before == pytest.approx(mean[0])
        assert loss.risk_after == pytest.approx(mean[1])
        assert loss.test is None

    def test_the_networks_are_left_alone(self):
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
        model.train()
        state = copy.deepcopy(model.state_dict())
        compare_models(model, model, made_batches())
        assert model.training
        assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())

    def test_no_data(self):
        model, _ = small_network()
        with pytest.raises(CalibrationError, match="no batch"):
            compare_models(model, model, [])


class TestRisks:
    def test_names(self):
        assert RiskOf("accuracy").name == "accuracy"

        def errors(model, batch):
            return torch.zeros(len(batch[0]))

        assert RiskOf(errors).name == "errors"
        with pytest.raises(InputTypeError, match="metric='f1' is not known"):
            RiskOf("f1")

    def test_language_models(self):
        class Model(torch.nn.Module):
            def forward(self, inputs, labels):
                return type("Output", (), {"logits": inputs})()

        batch = {"inputs": torch.eye(3), "labels": torch.tensor([0, 1, 1])}
        assert RiskOf("accuracy")(Model(), batch).tolist() == [0, 0, 1]

    @pytest.mark.parametrize(
        ("metric", "message"),
        [
            (lambda model, batch: torch.tensor(1.0), r"gave \(\) for a batch of 20 samples"),
            (lambda model, batch: 1.0, "gave float for a batch"),
            (lambda model, batch: torch.full((20,), torch.nan), "gave nan for a sample"),
        ],
    )
    def test_a_metric_that_is_none(self, metric, message):
        model, _ = small_network()
        with pytest.raises(CalibrationError, match=message):
            RiskOf(metric)(model, made_batches()[0])

    def test_accuracy_needs_classes(self):
        model, _ = small_network()
        with pytest.raises(CalibrationError, match="without classes"):
            RiskOf("accuracy")(model, torch.zeros(2, 4))
        with pytest.raises(CalibrationError, match=r"targets \(2, 3\)"):
            RiskOf("accuracy")(model, (torch.zeros(2, 4), torch.zeros(2, 3)))


class TestSplitData:
    @given(
        st.lists(st.integers(1, 9), min_size=1, max_size=8),
        st.lists(st.sampled_from([0.1, 0.25, 0.3, 0.51]), min_size=1, max_size=3).filter(
            lambda shares: sum(shares) <= 1
        ),
        st.integers(0, 3),
    )
    def test_no_sample_is_in_two_parts(self, sizes, shares, seed):
        numbers = torch.arange(sum(sizes)).split(sizes)
        data = [(batch[:, None].float(), {"y": batch, "scale": 2.0}) for batch in numbers]
        if sum(sizes) * min(shares) < len(shares) + 1:  # a part may get nothing
            return
        parts = split_data(data, shares, seed=seed)
        found = [[int(y) for _, extra in part for y in extra["y"]] for part in parts]
        everything = [y for part in found for y in part]
        assert len(set(everything)) == len(everything)
        for part in parts:
            for x, extra in part:
                assert x[:, 0].tolist() == extra["y"].tolist()
                assert extra["scale"] == 2.0
        if shares == [0.25]:
            assert len(everything) == sum(sizes) // 4

    def test_halves_hold_everything(self):
        first, second = split_data(made_batches(5, size=7), seed=3)
        sizes = [sum(len(x) for x, _ in part) for part in (first, second)]
        assert sum(sizes) == 35
        assert abs(sizes[0] - sizes[1]) <= 1
        again, _ = split_data(made_batches(5, size=7), seed=3)
        assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))

    def test_bad_shares(self):
        with pytest.raises(InputError, match="part 0 of 2 got none of 1 samples; give more data"):
            split_data(made_batches(1, size=1))
        with pytest.raises(InputError, match=r"sum to 1\.2"):
            split_data(made_batches(), (0.6, 0.6))
        with pytest.raises(InputError, match="shares=0 is out of range"):
            split_data(made_batches(), (0, 0.6))
