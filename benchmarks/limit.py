"""The physical limit of this machine: AND and popcount over the words of candidates.

    python -m benchmarks.limit

A search cannot be faster than one pass over the words of what it examines. Two layouts are timed,
because the vector unit likes them differently: *rows*, where the words of a candidate follow each
other, and *word-major*, where word w of all candidates do. Sizes are chosen to stay in the first
cache, the second, the last, and in none. The rate of the faster layout is the limit;
`fraction_of_limit` puts a search beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records import RESULTS, Row, print_table, write_records
from sigmine._jit import njit
from sigmine.bitset import popcount

# Bytes of candidates; a first cache has 32 KiB or more, a second 256 KiB or more.
SIZES = {"first cache": 2**14, "second cache": 2**17, "last cache": 2**22, "memory": 2**28}
WORDS = (1, 2, 8, 16, 128)  # of a candidate: 64 rows, 128 rows, 512 rows, 1,000 rows, 8,000 rows
_PASS_S = 0.02  # of a timed loop: far above the clock's resolution, below a time slice
_PASSES = 15


@njit
def count_rows(
    columns: NDArray[np.uint64], mask: NDArray[np.uint64], counts: NDArray[np.uint64], repeats: int
) -> None:
    """Count candidates whose words are contiguous, shape (n_candidates, n_words)."""
    for _ in range(repeats):
        for j in range(columns.shape[0]):
            total = np.uint64(0)
            for w in range(columns.shape[1]):
                total += popcount(columns[j, w] & mask[w])
            # Added, so that no pass can be left out.
            counts[j] += total


@njit
def count_word_major(
    columns: NDArray[np.uint64], mask: NDArray[np.uint64], counts: NDArray[np.uint64], repeats: int
) -> None:
    """Count candidates word by word, shape (n_words, n_candidates)."""
    n_words = columns.shape[0]
    for _ in range(repeats):
        # Four words a pass: the counts are loaded and stored a quarter as often.
        for w in range(0, n_words - 3, 4):
            a, b, c, d = mask[w], mask[w + 1], mask[w + 2], mask[w + 3]
            for j in range(columns.shape[1]):
                two = popcount(columns[w, j] & a) + popcount(columns[w + 1, j] & b)
                more = popcount(columns[w + 2, j] & c) + popcount(columns[w + 3, j] & d)
                counts[j] += two + more
        for w in range(n_words - n_words % 4, n_words):
            word = mask[w]
            for j in range(columns.shape[1]):
                counts[j] += popcount(columns[w, j] & word)


def measure(kernel: Callable[..., None], shape: tuple[int, int], n_words: int) -> float:
    """Return how many words a second a kernel passes over.

    Parameters
    ----------
    kernel : callable
        `count_rows` or `count_word_major`.
    shape : tuple of two int
        Of the candidates, in the kernel's layout.
    n_words : int
        Of a candidate.

    Returns
    -------
    float
        Words a second of CPU time, the best of several passes.
    """
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 2**64, shape, dtype=np.uint64)
    mask = rng.integers(0, 2**64, n_words, dtype=np.uint64)
    counts = np.zeros(columns.size // n_words, dtype=np.uint64)
    kernel(columns, mask, counts, 1)
    repeats = 1
    while (seconds := _cpu(kernel, columns, mask, counts, repeats)) < _PASS_S:
        repeats *= 2
    passes = [_cpu(kernel, columns, mask, counts, repeats) for _ in range(_PASSES)]
    return columns.size * repeats / min(seconds, *passes)


def _cpu(kernel: Callable[..., None], *arguments: Any) -> float:
    # CPU time of the thread: other work on the machine does not count.
    started = time.thread_time()
    kernel(*arguments)
    return time.thread_time() - started


def measure_all() -> list[Row]:
    """Return a row a size and number of words, with the rates of both layouts."""
    rows: list[Row] = []
    for where, n_bytes in SIZES.items():
        for n_words in WORDS:
            n = n_bytes // 8 // n_words
            by_row = measure(count_rows, (n, n_words), n_words)
            word_major = measure(count_word_major, (n_words, n), n_words)
            best = max(by_row, word_major)
            rows.append(
                {
                    "where": where,
                    "words": n_words,
                    "rows Gwords/s": by_row / 1e9,
                    "word-major Gwords/s": word_major / 1e9,
                    "limit words/s": best,
                    "ns / candidate": 1e9 * n_words / best,
                }
            )
    return rows


@cache
def limit_rate() -> float:
    """Return the highest rate of this machine on one core, in words a second."""
    n_bytes, n_words = SIZES["first cache"], 8
    n = n_bytes // 8 // n_words
    shapes = {count_rows: (n, n_words), count_word_major: (n_words, n)}
    return max(measure(kernel, shape, n_words) for kernel, shape in shapes.items())


def fraction_of_limit(n_words: int, seconds: float, rate: float | None = None) -> float:
    """Return which part of a search's time the words it passed over would take at the limit.

    Parameters
    ----------
    n_words : int
        Words that the search combined by AND and counted.
    seconds : float
        CPU seconds of the search.
    rate : float, optional
        Words a second; of this machine, measured once, if not given.

    Returns
    -------
    float
        1 is the limit; 0.01 means that the search takes a hundred times longer.
    """
    return n_words / (limit_rate() if rate is None else rate) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "limit.csv")
    options = parser.parse_args()
    rows = measure_all()
    write_records(options.out, rows)
    print_table(rows)


if __name__ == "__main__":
    main()
