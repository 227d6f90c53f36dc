"""What a fresh process pays: the import, and the first result with a filled cache."""

# ruff: noqa: D102  (asv reads the names of methods, which say what they do)

from __future__ import annotations


class Startup:
    """Each measurement is a process of its own."""

    def timeraw_import(self) -> str:
        return "import sigmine"

    def timeraw_import_mining(self) -> str:
        return "from sigmine import mine_matrix"

    def timeraw_first_result(self) -> tuple[str, str]:
        # The code, and the set-up before it, which is not measured.
        code = "mine_matrix(data.X, data.y, strata=data.strata)"
        setup = (
            "from sigmine import mine_matrix, simulate; "
            "data = simulate.simulate_planted(200, 20, 2, rng=0)"
        )
        return code, setup
