"""Time and memory of packing, and the memory of a whole search."""

# ruff: noqa: D102  (asv reads the names of methods, which say what they do)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from sigmine.mining import mine_matrix
from sigmine.problem import build_problem
from sigmine.simulate import simulate_planted
from sigmine.strata import encode_strata

N_STRATA = 4


def _tall(density: float) -> Any:
    rng = np.random.default_rng(0)
    return rng.random((200_000, 100), dtype=np.float32) < density


def _wide(density: float) -> Any:
    rng = np.random.default_rng(0)
    return rng.random((1000, 20_000), dtype=np.float32) < density


KINDS: dict[str, Callable[[], Any]] = {
    "rows, C order": lambda: _tall(0.2),
    "rows, Fortran order": lambda: np.asfortranarray(_tall(0.2)),
    "rows, float64": lambda: _tall(0.2)[:50_000].astype(np.float64),
    "items, dense": lambda: _wide(0.2),
    "items, CSR": lambda: sparse.csr_array(_wide(0.02)),
    "items, CSC": lambda: sparse.csc_array(_wide(0.02)),
}


class Packing:
    """From a matrix to the problem."""

    params = (list(KINDS),)
    param_names = ("input",)

    def setup(self, kind: str) -> None:
        self.matrix = KINDS[kind]()
        n_rows, n_items = self.matrix.shape
        self.names = [f"x{j}" for j in range(n_items)]
        self.y = np.arange(n_rows) % 3 == 0
        self.strata = encode_strata(np.arange(n_rows) % N_STRATA, n_rows)

    def time_pack(self, kind: str) -> None:
        build_problem(self.matrix, self.y, self.strata, item_names=self.names)

    def peakmem_pack(self, kind: str) -> None:
        build_problem(self.matrix, self.y, self.strata, item_names=self.names)


class Mining:
    """A whole analysis; Python, numba and pandas are most of it."""

    def setup(self) -> None:
        self.data = simulate_planted(500, 250, N_STRATA, rng=0)

    def peakmem_mine_matrix(self) -> None:
        mine_matrix(self.data.X, self.data.y, strata=self.data.strata)
