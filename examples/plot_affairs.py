"""
Who had an affair?
==================

In 1974 a magazine asked 6,366 married women about their marriages. A third of them had spent
time in an affair. Which combinations of answers go with that?

Age and the years of marriage come first to mind: they are linked with affairs and with nearly
every other answer (children, education, occupation). So they are the *strata*, and what is reported
is what they do not explain.
"""

# %%
# The table
# ---------
# The data come inside statsmodels; nothing is downloaded. Every column but the outcome and the
# strata is made into items, one a level.
from sigmine import mine_patterns
from sigmine.datasets import load_fair

data = load_fair()
data.frame.head()

# %%
# The search
# ----------
# One call makes the items, finds every combination that could reach significance, tests it, and
# corrects for all of them.
results = mine_patterns(data.frame, target=data.target, strata=data.strata)
results.print_summary(top=8)

# %%
# The best pattern
# ----------------
# One odds ratio a stratum, and the one that is pooled over all of them. A long line is a stratum of
# a few women.
results.plot_forest(0)

# %%
# The same as a table. Each stratum compares carriers of the pattern with the other women of the
# same age and years of marriage.
results.stratum_table(0).round(2)

# %%
# Is one odds ratio a fair summary? The homogeneity test (Breslow and Day, with Tarone's adjustment)
# asks whether the strata differ by more than chance. For these eight patterns they do not.
columns = ["generator", "odds_ratio", "odds_ratio_low", "odds_ratio_high", "homogeneity_pvalue"]
results.patterns[columns].head(8).round(3)

# %%
# All testable patterns
# ---------------------
# The p-values of everything that was tested, against what chance alone would give. Most points lie
# above the diagonal because most patterns share rows with a few strong answers; the inflation
# factor in the title measures that.
results.plot_qq()

# %%
# What the strata took away
# -------------------------
# The same search in the same rows, but without age and years of marriage, claims more patterns.
# Those that are gone within the strata were carried by age and years of marriage.
gone = results.confounded()
print(f"{len(results.unstratified())} patterns without the strata, {len(results)} with them")
print(f"{len(gone)} are claimed only by the search that ignores the strata")
shown = ["generator", "pvalue_unstratified", "odds_ratio_unstratified", "pvalue", "odds_ratio"]
gone.sort_values("pvalue", ascending=False)[shown].head(6)

# %%
# To hand on
# ----------
# ``results.to_html("report.html")`` writes all of this as one file for a reader who does not
# program. A significant pattern goes with the outcome in these data; it does not say why, and a
# survey of volunteers does not say how it would be elsewhere: see :doc:`/guarantees`.
