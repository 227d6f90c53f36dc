"""One of two processes that calibrate together: FOLDER RANK on the command line."""

import sys
from pathlib import Path

import torch

from sigmine_nn.calibrate import Statistic, calibrate
from sigmine_nn.criteria import CRITERIA, Scoring
from tests.calibration_nets import images, in_batches, residual


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    model, (x, y) = residual(), images(11)
    # 7 samples in two batches here, 4 in one there.
    data = in_batches(x[:7], y[:7], 4, 3) if rank == 0 else [(x[7:], y[7:])]
    units = model.units()
    found = calibrate(model, data, units, list(Statistic), loss="cross_entropy", keep_samples=True)
    scoring = Scoring.of(model, units, found)
    answer = {
        "n_samples": found.n_samples,
        "loss": found.loss,
        "scores": {name: criterion(scoring).score for name, criterion in CRITERIA.items()},
        "variance": found.of_units[Statistic.TAYLOR].variance,
    }
    torch.save(answer, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
