"""Tests of association between an itemset and the outcome, given the strata: a file a test.

Each test offers its statistic, its p-value and log p-value, the smallest p-value that its margins
can attain, and a lower bound of that over every superset, which is what makes the search finite.
May import: `sigmine.exceptions`, `sigmine._jit`, `sigmine.settings`. Nothing of the search.
"""
