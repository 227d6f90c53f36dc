"""
What a confounder does to a search
==================================

Simulated data, so that the truth is known: three items together go with the outcome, and four
other sets of items depend on the hospital alone. The hospitals differ in their share of cases, and
so the four sets look associated to anybody who does not ask where the rows come from.
"""

# %%
# The data
# --------
# Four hospitals, with 10 % to 90 % cases. Carriers of a *confounded* set are more frequent where
# cases are, and inside a hospital they have nothing to do with them.
import matplotlib.pyplot as plt
import numpy as np

from sigmine import metrics, mine_matrix
from sigmine.simulate import simulate_planted

data = simulate_planted(
    n_rows=1000,
    n_items=20,
    n_strata=4,
    case_rates=(0.1, 0.9),
    pattern_length=3,
    n_associated=1,
    n_confounded=4,
    carrier_rates=(0.05, 0.40),
    rng=0,
)
print("associated:", *data.planted.associated)
print("confounded:", *data.planted.confounded)

# %%
# Two searches
# ------------
# With the hospital as the stratum, and of the same rows without it.
results = mine_matrix(data.X, data.y, strata=data.strata, item_names=data.item_names)
without = results.unstratified()

# %%
# A discovery is certainly false if it has no item of the associated set: within every hospital it
# was drawn without looking at the outcome.
true_items = {data.item_names[j] for itemset in data.planted.associated for j in itemset}
for name, found in (("with strata", results), ("without", without)):
    n_false = metrics.count_false(found.patterns["pattern"], [true_items])
    print(f"{name:>12}: {len(found):5,} discoveries, {n_false:3} of them false")

# %%
# The associated set is found either way; the search without strata buries it under discoveries
# that are about hospitals. Many of these do have an item of the associated set, and are
# not counted as false here; they too owe most of their significance to the hospitals.
planted = [{data.item_names[j] for j in itemset} for itemset in data.planted.associated]
print("found with strata:", metrics.power(results.patterns["pattern"], planted) == 1.0)
results.patterns[["generator", "support", "pvalue", "odds_ratio"]].head()

# %%
# Every discovery, in both searches
# ---------------------------------
# Where the strata change nothing a point lies on the diagonal; the dashed lines are the two
# thresholds. False discoveries (orange) have small p-values only as long as the strata are ignored:
# they lie along the bottom.
comparison = results.comparison()
is_false = np.array([not set(pattern) & true_items for pattern in comparison["pattern"]])

fig, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
for mask, color, label in (
    (~is_false, "#0072b2", "has an item of the associated set"),
    (is_false, "#d55e00", "false"),
):
    ax.scatter(
        -comparison["log10_pvalue_unstratified"][mask],
        -comparison["log10_pvalue"][mask],
        s=9,
        color=color,
        label=label,
        alpha=0.6,
        linewidths=0,
    )
end = -comparison["log10_pvalue_unstratified"].min()
ax.plot([0, end], [0, end], color="0.6", linewidth=1)
ax.axhline(-np.log10(results.corrected_threshold), color="0.3", linewidth=1, linestyle="--")
ax.axvline(-np.log10(without.corrected_threshold), color="0.3", linewidth=1, linestyle="--")
ax.set_xlabel(r"$-\log_{10}$ p without strata")
ax.set_ylabel(r"$-\log_{10}$ p within strata")
ax.legend(frameon=False)

# %%
# A warning sign that needs no truth
# ----------------------------------
# In real data nobody knows which discoveries are false. The QQ plot of all testable patterns tells
# something: without the strata the whole cloud is lifted off the diagonal, not only its end.
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.8), layout="constrained", sharey=True)
results.plot_qq(ax=left)
without.plot_qq(ax=right)
left.set_title(f"with strata, inflation {results.inflation:.1f}", loc="left")
right.set_title(f"without, inflation {without.inflation:.1f}", loc="left")
