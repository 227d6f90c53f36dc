"""Write simulated data sets as transaction files.

    python -m benchmarks.make_data build/data                     # every shape, 4 strata
    python -m benchmarks.make_data build/data --shape wide dense --strata 1 2 4 8 16 32

A set is three files, PREFIX.transactions (items of one row a line), PREFIX.labels and
PREFIX.covariates (one value a line), and PREFIX.json with the planted sets.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from sigmine.simulate import simulate_planted

SHAPES: dict[str, dict[str, Any]] = {
    "wide": {"n_rows": 500, "n_items": 1800, "density": 0.1},
    "middle": {"n_rows": 500, "n_items": 250, "density": 0.2},
    "dense": {"n_rows": 1000, "n_items": 28, "density": 0.5},
    "wide-large": {"n_rows": 500, "n_items": 5500, "density": 0.1},
    "dense-large": {"n_rows": 1000, "n_items": 42, "density": 0.5},
}


def write_set(folder: Path, shape: str, n_strata: int, seed: int = 0) -> Path:
    """Simulate one set with planted patterns and write it; return its prefix."""
    seeds = np.random.SeedSequence([seed, list(SHAPES).index(shape), n_strata])
    data = simulate_planted(n_strata=n_strata, rng=seeds, **SHAPES[shape])
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / f"{shape}-K{n_strata}"
    lines = (" ".join(map(str, np.flatnonzero(row))) for row in data.X)
    contents = {
        "transactions": "".join(f"{line}\n" for line in lines),
        "labels": "".join(f"{value}\n" for value in data.y),
        "covariates": "".join(f"{value}\n" for value in data.strata),
        "json": json.dumps(
            {
                **SHAPES[shape],
                "n_strata": n_strata,
                "seed": seed,
                "associated": data.planted.associated,
                "confounded": data.planted.confounded,
            },
            indent=1,
        ),
    }
    for suffix, text in contents.items():
        prefix.with_name(f"{prefix.name}.{suffix}").write_text(text, encoding="utf-8")
    return prefix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--strata", nargs="+", type=int, default=[4])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for shape in options.shape:
        for n_strata in options.strata:
            print(write_set(options.folder, shape, n_strata, options.seed))


if __name__ == "__main__":
    main()
