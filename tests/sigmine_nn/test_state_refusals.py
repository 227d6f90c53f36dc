"""Layers of states that are refused, each with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sigmine_nn.adapters import find_states, read_systems, state_layers, states_left_out
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError
from sigmine_nn.gating import run
from sigmine_nn.masks import apply_masks
from sigmine_nn.state_space import S5
from sigmine_nn.surgery import plan_removal
from sigmine_nn.units import Role
from tests.networks import random_keep
from tests.state_nets import (
    MODELS,
    OTHERS,
    STEPS,
    S4DPy,
    Stack,
    lru,
    s5_library,
    sequences,
)

ALL = {**MODELS, **OTHERS}
OWN = list(MODELS)


# -- What is refused ----------------------------------------------------------------------------


class LowRank(nn.Module):
    """The tensors of a kernel of S4, diagonal plus low rank."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.randn(2, 4)))

    def forward(self, x: Tensor) -> Tensor:
        return x


def mamba(second: bool = False) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    if second:
        from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

        config = transformers.Mamba2Config(
            hidden_size=8, state_size=4, num_heads=4, head_dim=4, n_groups=1, expand=2
        )
        return Mamba2Mixer(config, layer_idx=0)
    from transformers.models.mamba.modeling_mamba import MambaMixer

    return MambaMixer(transformers.MambaConfig(hidden_size=8, state_size=4), layer_idx=0)


def liquid(**options: Any) -> nn.Module:
    layer: nn.Module = s5_library().S5(3, 4, **options)
    return layer


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "S4": (lambda: LowRank(("P", "B", "C", "A_imag", "A_real", "inv_dt")), "low rank"),
    "S4Torch": (lambda: LowRank(("_p", "_q", "_lambda_", "_B", "_Ct", "log_step")), "low rank"),
    "SSMKernelDiag": (lambda: LowRank(("B", "C", "A_real", "A_imag", "inv_dt")), "shared among"),
    "Mamba": (mamba, "depend on the input"),
    "Mamba-2": (lambda: mamba(second=True), "share one eigenvalue"),
    "liquid S5": (lambda: liquid(liquid=True), "liquid S5"),
    "S5 of a degree": (lambda: liquid(degree=2), "to the power of 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_layers_are_refused_with_a_sentence(name: str) -> None:
    make, reason = REFUSED[name]
    alone = make()
    with pytest.raises(ModelError, match=reason):
        find_units(alone, "state")
    assert state_layers(alone) == []
    model = nn.ModuleDict({"known": S5(3, 4, **STEPS), "other": make()})
    units = find_units(model, "state")
    assert units.names == ["known"]
    assert list(units.left_out) == ["other"]
    assert reason in units.left_out["other"]


def test_models_without_such_layers_say_so() -> None:
    with pytest.raises(ModelError, match="no units of kind 'state'"):
        find_units(nn.Linear(2, 2), "state")
    assert states_left_out(nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2))) == {}


def test_tables_that_do_not_fit_are_no_layer() -> None:
    layer: Any = S4DPy(3, 4)
    layer.kernel.A_imag = nn.Parameter(torch.ones(3, 5))
    assert state_layers(layer) == []
    torn: Any = lru(3, 4)
    torn.nu_log = nn.Parameter(torch.ones(5))
    assert state_layers(torn) == []


def test_a_layer_with_two_readers_is_left_out() -> None:
    """Something reads the states besides the output columns: masking would not be removing."""

    class Leaky(S5):
        def forward(self, u: Tensor, step_scale: float = 1.0) -> Tensor:
            return super().forward(u, step_scale) + self.B.sum()

    model = Stack([Leaky(4, 5, **STEPS), S5(4, 5, **STEPS)])
    units = find_units(model, "state", sequences())
    assert units.names == ["layers.1"]
    assert "layers.0" in units.left_out


def test_groups_name_gates_that_read() -> None:
    for name in ("S5", "S5 both ways", "S4D"):
        for group in find_states(ALL[name]()):
            assert group.gates == ()
            readers = {p.parameter.rpartition(".")[2] for p in group.with_role(Role.IN)}
            assert readers == ({"C1", "C2"} if name == "S5 both ways" else {"C"})


def test_a_group_cannot_lose_all_its_states() -> None:
    from sigmine.exceptions import InputError

    model = ALL["S4D"]()
    units = find_units(model, "state")
    keep = np.ones(units.n, dtype=bool)
    keep[: units[0].n_units] = False
    with pytest.raises(InputError, match=r"all 24 units of 'layers\.0' would be removed"):
        plan_removal(model, units, keep)


def test_masked_models_read_as_masked() -> None:
    model = ALL["S5"]()
    units = find_units(model, "state")
    keep = random_keep(units, 1)
    masks = apply_masks(model, units, keep)
    zero = {name: (system.output_energy == 0).numpy() for name, system in
            read_systems(model).items()}  # fmt: skip
    for name, part in units.split(keep).items():
        np.testing.assert_array_equal(zero[name], ~part)
    masks.remove()
    run(model, sequences())
