"""Count closed itemsets with PyFIM (Borgelt), to stand beside ours in `benchmarks.compare`.

    python benchmarks/pyfim_closed.py eclat data.transactions 100
    python benchmarks/pyfim_closed.py carpenter data.transactions 9 --variant l --mining

Runs in any Python that has PyFIM: it needs nothing else. Prints the count on a line, with
``--mining`` also the CPU seconds of the call that mines, without reading.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import fim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("algorithm", choices=("carpenter", "eclat", "fpgrowth", "ista"))
    parser.add_argument("transactions", type=Path)
    parser.add_argument("support", type=int, help="rows")
    parser.add_argument("--variant", help="of the algorithm, as PyFIM names it")
    parser.add_argument("--mining", action="store_true", help="print what the call took")
    options = parser.parse_args()
    text = options.transactions.read_text(encoding="ascii")
    rows = [list(map(int, line.split())) for line in text.splitlines()]
    chosen = {} if options.variant is None else {"algo": options.variant}
    mine = getattr(fim, options.algorithm)
    started = time.process_time()
    # A negative number is one of rows; "#" asks for numbers of itemsets by size.
    numbers = mine(rows, target="c", supp=-options.support, report="#", **chosen)
    seconds = time.process_time() - started
    print(int(sum(numbers.values())))
    if options.mining:
        print(f"{seconds:.3f} s")


if __name__ == "__main__":
    main()
