"""
A search on a Dask cluster
==========================

The same call, inside ``joblib.parallel_config(backend="dask")``, searches with all workers of a
cluster. Here the cluster is two processes of this machine; a real one differs only in how the
client is made, ``Client("tcp://scheduler:8786")`` for example.

Run it as a script, with ``--quick`` for a second of work::

    python dask_cluster.py --quick
"""

# %%
# Processes of a cluster import this file too, so whatever starts them stands behind
# ``if __name__ == "__main__"``.

import argparse
import tempfile

import joblib
from distributed import Client, LocalCluster

import sigmine
from sigmine import simulate


def simulated(n_items: int) -> simulate.SimulatedData:
    """Make a table of 800 rows in which two sets of items go with the outcome."""
    return simulate.simulate_planted(800, n_items, n_strata=4, density=0.3, rng=0)


# %%
# The search itself says nothing about a cluster: joblib's context does. The data travel to every
# worker once; after that, each gets a batch of subtrees with all that is known about the threshold,
# and returns what it has met. A worker that is lost costs its batch: another one does it again.
# With a folder for ``checkpoint`` the search also survives the loss of this process: the same call
# goes on from there.


def search(data: simulate.SimulatedData, folder: str) -> sigmine.PatternResults:
    """Search with the workers of the client that was made last."""
    with joblib.parallel_config(backend="dask"):
        return sigmine.mine_matrix(data.X, data.y, strata=data.strata, checkpoint=folder)


# %%
# The answer does not depend on who searches, down to the last digit.


def main() -> None:
    parser = argparse.ArgumentParser(description="A search on a Dask cluster.")
    parser.add_argument("--quick", action="store_true", help="fewer items")
    data = simulated(30 if parser.parse_args().quick else 150)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        print(f"{sum(client.ncores().values())} workers")
        results = search(data, folder)
    here = sigmine.mine_matrix(data.X, data.y, strata=data.strata)
    assert results.corrected_threshold == here.corrected_threshold
    assert results.patterns.equals(here.patterns)
    print(f"{len(results)} significant patterns, as without the cluster")
    results.print_summary()


if __name__ == "__main__":
    main()
