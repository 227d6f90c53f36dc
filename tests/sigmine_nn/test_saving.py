"""Pruned models in files: bit-equal when loaded, whole or not at all, and data only."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file

from sigmine.exceptions import FileFormatError, InputError, InputTypeError
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError
from sigmine_nn.masks import apply_masks
from sigmine_nn.plan import RemovalPlan
from sigmine_nn.saving import load_pruned, read_pruned, save_pruned
from sigmine_nn.surgery import largest_difference, remove_units
from tests import networks
from tests.networks import images, random_keep, state_of

CASES = {
    "batch": (lambda: networks.residual_net("batch", seed=3), "channel", images()),
    "group": (lambda: networks.residual_net("group", seed=3), "channel", images()),
    "layer": (lambda: networks.residual_net("layer", seed=3), "channel", images()),
    "flat": (lambda: networks.flat_net(seed=3), "channel", images()),
    "vit": (lambda: networks.vit(seed=3), "channel", images()),
    "heads": (lambda: networks.vit(n_kv_heads=2, seed=3), "head", images()),
}


def pruned(name: str = "group", seed: int = 1) -> tuple[nn.Module, RemovalPlan, Any, Tensor]:
    """A pruned model that was trained a little afterwards, and what makes the original one."""
    make, kind, inputs = CASES[name]
    model = make()
    units = find_units(model, kind, inputs)
    small, plan = remove_units(model, units, random_keep(units, seed))
    optimizer = torch.optim.SGD(small.parameters(), 0.1)
    small.train()
    F.cross_entropy(small(inputs), torch.arange(4)).backward()
    optimizer.step()
    return small.eval(), plan, make, inputs


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    small, plan, _, _ = pruned()
    return save_pruned(tmp_path / "model.safetensors", small, plan)


# -- There and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_loaded_model_is_equal_bit_by_bit(name, tmp_path):
    small, plan, make, inputs = pruned(name)
    path = save_pruned(tmp_path / "model.safetensors", small, plan)
    loaded = load_pruned(path, make)
    assert torch.equal(loaded(inputs), small(inputs))
    assert {n: t.numpy().tobytes() for n, t in loaded.state_dict().items()} == {
        n: t.numpy().tobytes() for n, t in small.state_dict().items()
    }
    for (_, a), (_, b) in zip(small.named_modules(), loaded.named_modules(), strict=True):
        sizes = {k: v for k, v in vars(a).items() if isinstance(v, int | tuple)}
        assert sizes == {k: vars(b)[k] for k in sizes}
    assert all(p.requires_grad for p in loaded.parameters())


def test_the_file_is_smaller_than_that_of_the_whole_model(tmp_path):
    small, plan, make, _ = pruned()
    path = save_pruned(tmp_path / "model.safetensors", small, plan)
    whole = tmp_path / "whole.safetensors"
    save_file(make().state_dict(), whole)
    n = sum(t.numel() * t.element_size() for t in small.state_dict().values())
    assert n < path.stat().st_size < n + 8000
    assert path.stat().st_size < whole.stat().st_size


def test_any_reader_of_safetensors_gets_the_weights(saved):
    small, _, _, _ = pruned()
    tensors = load_file(saved)
    assert tensors.keys() == small.state_dict().keys()
    assert torch.equal(tensors["stem.weight"], small.stem.weight)


def test_a_folder_gets_a_file(tmp_path):
    small, plan, make, inputs = pruned()
    assert save_pruned(tmp_path, small, plan) == tmp_path / "model.safetensors"
    assert torch.equal(load_pruned(tmp_path, make)(inputs), small(inputs))
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_what_the_file_says(tmp_path):
    small, plan, _, inputs = pruned()
    config = {"norm": "group", "width": 8}
    where = "tests.networks:residual_net"
    path = save_pruned(tmp_path / "m", small, plan, constructor=where, config=config)
    found = read_pruned(path)
    assert found.plan == plan
    assert (found.config, found.constructor, found.tied) == (config, where, {})
    assert found.shapes["stem.weight"] == tuple(small.stem.weight.shape)
    # The config goes to the function; a string is imported if the caller gives it.
    assert torch.equal(load_pruned(path, networks.residual_net)(inputs), small(inputs))
    assert torch.equal(load_pruned(path, "tests.networks:residual_net")(inputs), small(inputs))


def test_an_empty_plan_saves_a_whole_model(tmp_path):
    model = networks.mlp()
    path = save_pruned(tmp_path / "m", model, RemovalPlan({}, {}))
    loaded = load_pruned(path, lambda: networks.mlp(seed=5))
    assert largest_difference(model, loaded, torch.randn(3, 30)) == 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_precision_is_that_of_the_saved_model(dtype, tmp_path):
    small, plan, make, inputs = pruned()
    path = save_pruned(tmp_path / "m", small.to(dtype), plan)
    loaded = load_pruned(path, make)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert torch.equal(loaded(inputs.to(dtype)), small(inputs.to(dtype)))


def test_buffers_that_are_not_persistent_come_from_the_factory(tmp_path):
    def make() -> nn.Module:
        model = networks.mlp()
        model[0].register_buffer("scale", torch.full((16,), 2.0), persistent=False)
        return model

    small, plan = make(), RemovalPlan({}, {})
    loaded = load_pruned(save_pruned(tmp_path / "m", small, plan), make)
    assert torch.equal(loaded[0].scale, torch.full((16,), 2.0))
    assert "0.scale" not in read_pruned(tmp_path / "m").shapes


class Tied(nn.Module):
    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.lm_head = nn.Linear(4, 7, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    plan = RemovalPlan({"embed.weight": {1: [0, 2]}, "lm_head.weight": {1: [0, 2]}}, {})
    model = Tied()
    plan.apply(model)
    path = save_pruned(tmp_path / "m", model, plan)
    assert read_pruned(path).tied == {"lm_head.weight": "embed.weight"}
    assert set(load_file(path)) == {"embed.weight"}
    loaded = load_pruned(path, Tied)
    assert loaded.lm_head.weight is loaded.embed.weight
    assert torch.equal(loaded.embed.weight, model.embed.weight)
    with pytest.raises(ModelError, match="one tensor in the file, two in the model"):
        load_pruned(path, lambda: Tied(tied=False))


def test_a_model_of_transformers(tmp_path):
    pytest.importorskip("transformers")
    model, inputs = networks.llama(tie_word_embeddings=True), networks.tokens()
    units = find_units(model, "head", inputs)
    small, plan = remove_units(model, units, [True, False, True, True], example_inputs=inputs)
    path = save_pruned(tmp_path / "m", small, plan, config={"tie_word_embeddings": True})
    loaded = load_pruned(path, networks.llama)
    assert torch.equal(loaded(inputs).logits, small(inputs).logits)


# -- What cannot be saved -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": {"f": print}}, "JSON"),
        ({"config": {"x": float("nan")}}, "JSON"),
        ({"config": {3: 4}}, "come back as others"),
        ({"config": {"shape": (1, 2)}}, "come back as others"),
        ({"constructor": "os.system"}, "package.module:function"),
        ({"constructor": "a b:c"}, "package.module:function"),
    ],
)
def test_options_that_cannot_be_saved(options, message, tmp_path):
    small, plan, _, _ = pruned()
    with pytest.raises(InputError, match=message):
        save_pruned(tmp_path / "m", small, plan, **options)
    assert os.listdir(tmp_path) == []


def test_a_plan_of_another_model_is_not_saved(tmp_path):
    _small, plan, make, _ = pruned()
    for model in (make(), networks.mlp()):
        with pytest.raises(ModelError, match="its own plan"):
            save_pruned(tmp_path / "m", model, plan)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("merge", [False, True])
def test_masks_are_not_saved(merge, tmp_path):
    model, inputs = networks.residual_net("group"), images()
    units = find_units(model, "channel", inputs)
    masks = apply_masks(model, units, random_keep(units))
    if merge:
        masks.merge()
    with pytest.raises(ModelError, match="masks are on the model"):
        save_pruned(tmp_path / "m", model, RemovalPlan({}, {}))


def test_merged_masks_without_statistics_are_weights_like_others(tmp_path):
    model, inputs = networks.residual_net("batch"), images()
    units = find_units(model, "channel", inputs)
    apply_masks(model, units, random_keep(units)).merge()
    path = save_pruned(tmp_path / "m", model, RemovalPlan({}, {}))
    assert torch.equal(load_pruned(path, networks.residual_net)(inputs), model(inputs))


def test_a_state_that_is_not_only_tensors(tmp_path):
    class Extra(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"a": 1}

        def set_extra_state(self, state: object) -> None:
            pass

    with pytest.raises(ModelError, match="only tensors"):
        save_pruned(tmp_path / "m", Extra(2, 2), RemovalPlan({}, {}))


def test_a_write_that_fails_leaves_the_old_file(saved, monkeypatch):
    content = saved.read_bytes()
    small, plan, _, _ = pruned(seed=2)

    def full(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="the disk is full; the file that was there is unchanged"):
        save_pruned(saved, small, plan)
    assert saved.read_bytes() == content
    assert os.listdir(saved.parent) == [saved.name]


def test_a_folder_that_is_not_there(tmp_path):
    small, plan, _, _ = pruned()
    with pytest.raises(InputError, match="does not exist"):
        save_pruned(tmp_path / "no" / "m", small, plan)


# -- Factories that do not fit ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        (None, InputTypeError, r"NoneType; give the function .*\(the file names 'os:abort'\)"),
        (7, InputTypeError, "factory is a int"),
        (lambda: 3, InputTypeError, "the factory made a int"),
        ("tests.networks:nothing", InputTypeError, "factory is a NoneType"),
        ("tests.networks", InputError, "package.module:function"),
        (networks.mlp, ModelError, "does not fit to the model that the factory makes"),
        (
            lambda: networks.residual_net("batch"),
            ModelError,
            "num_batches_tracked. is in the model only",
        ),
        (lambda: networks.residual_net("group", width=4), ModelError, "for another model"),
        (lambda: networks.residual_net("none"), ModelError, "no parameter or buffer"),
    ],
)
def test_factories_that_do_not_fit(factory, error, message, tmp_path):
    small, plan, _, _ = pruned()
    path = save_pruned(tmp_path / "m", small, plan, constructor="os:abort")
    with pytest.raises(error, match=message):
        load_pruned(path, factory)


def test_tensors_of_other_shapes_are_refused(tmp_path):
    small, plan, make, _ = pruned()
    path = save_pruned(tmp_path / "m", small, plan)

    def wider() -> nn.Module:
        model = make()
        model.head = nn.Linear(16, 11)
        return model

    with pytest.raises(ModelError, match=r"'head.weight' has shape \(11, "):
        load_pruned(path, wider)


def test_nothing_that_a_file_names_is_imported(tmp_path, monkeypatch):
    small, plan, make, _ = pruned()
    path = save_pruned(tmp_path / "m", small, plan, constructor="this:surprise")
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"imported {name}"))
    assert read_pruned(path).constructor == "this:surprise"
    load_pruned(path, make)
    with pytest.raises(InputTypeError):
        load_pruned(path)


# -- Files that are damaged or hostile ----------------------------------------------------------


class Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was run",))


def archive() -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.ones(2)}, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\0" * 100, b"\xff" * 100, pickle.dumps(Malice()), archive(),
     (2**63).to_bytes(8, "little") + b"{}", (10).to_bytes(8, "little") + b'{"a":[[[['],
    ids=["empty", "json", "zeros", "ones", "pickle", "archive", "huge header", "broken json"],
)  # fmt: skip
def test_what_is_no_such_file(content, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    for action in (read_pruned, lambda p: load_pruned(p, networks.mlp)):
        with pytest.raises(FileFormatError, match="no saved pruned model") as caught:
            action(path)
        assert caught.value.path == str(path)


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "m", tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            load_pruned(path, networks.mlp)


def test_files_that_are_cut_off(saved):
    content = saved.read_bytes()
    _, _, make, _ = pruned()
    for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.9999):
        saved.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(FileFormatError, match="damaged"):
            load_pruned(saved, make)
    saved.write_bytes(content + b"x")
    with pytest.raises(FileFormatError, match="damaged"):
        load_pruned(saved, make)


def text_of(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["sigmine_nn"])
    return found


def rewritten(path: Path, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    save_file(load_file(path), path, metadata={"sigmine_nn": text})


@pytest.mark.parametrize(
    "change",
    [
        lambda c: [], lambda c: None, lambda c: "[" * 100_000, lambda c: '{"a"',
        lambda c: {**c, "format": "other"}, lambda c: {**c, "version": 2},
        lambda c: {**c, "version": "1"}, lambda c: {**c, "plan": None},
        lambda c: {**c, "plan": {"kept": {"a": {"0": "1"}}, "attributes": {}}},
        lambda c: {**c, "tied": []}, lambda c: {**c, "tied": {"a": "nowhere"}},
        lambda c: {**c, "tied": {"stem.weight": "down.weight"}},
        lambda c: {**c, "tied": {"a": ["stem.weight"]}},
        lambda c: {**c, "config": [1]}, lambda c: {**c, "constructor": 3},
        lambda c: {k: v for k, v in c.items() if k != "config"},
    ],
)  # fmt: skip
def test_headers_that_lie(change, saved):
    rewritten(saved, change(text_of(saved)))
    with pytest.raises(FileFormatError, match="no saved pruned model"):
        read_pruned(saved)
    with pytest.raises(FileFormatError):
        load_pruned(saved, networks.residual_net)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["kept"].update({"../../etc/passwd": {"0": [0]}}),
        lambda p: p["kept"].update({"stem.__class__": {"0": [0]}}),
        lambda p: p["kept"]["stem.weight"].update({"0": [0, 10**12]}),
        lambda p: p["kept"]["stem.weight"].update({"0": [0] * 10_000}),
        lambda p: p["attributes"].update({"stem": {"forward": 1}}),
        lambda p: p["attributes"].update({"stem": {"training": 0}}),
        lambda p: p["attributes"].update({"": {"__class__": 1}}),
    ],
)
def test_plans_that_reach_for_more(change, saved):
    content = text_of(saved)
    change(content["plan"])
    rewritten(saved, content)
    model = networks.residual_net("group")
    before = state_of(model)
    with pytest.raises(ModelError, match="does not fit"):
        load_pruned(saved, lambda: model)
    assert state_of(model) == before


def test_a_header_that_is_too_long(saved, monkeypatch):
    monkeypatch.setattr("sigmine_nn.saving._MAX_JSON", 100)
    with pytest.raises(FileFormatError, match="too long"):
        read_pruned(saved)
    small, plan, _, _ = pruned()
    with pytest.raises(InputError, match="MiB as JSON"):
        save_pruned(saved, small, plan)


@given(place=st.floats(0, 1), byte=st.integers(0, 255))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_byte_changed_is_an_error_or_another_number(place, byte, saved):
    """Nothing but the errors that are promised comes out, whatever is in the file."""
    content = bytearray(saved.read_bytes())
    content[int(place**3 * (len(content) - 1))] = byte  # more of them in the header
    other = saved.with_name("other")
    other.write_bytes(bytes(content))
    try:
        loaded = load_pruned(other, lambda: networks.residual_net("group"))
    except (FileFormatError, ModelError):
        return
    small, _, _, _ = _PRUNED
    assert {n: t.shape for n, t in loaded.state_dict().items()} == {
        n: t.shape for n, t in small.state_dict().items()
    }


_PRUNED = pruned()


def test_values_are_those_of_the_file_and_not_of_the_factory(saved):
    small, _, _, inputs = pruned()
    for seed in range(3):
        loaded = load_pruned(saved, lambda seed=seed: networks.residual_net("group", seed=seed))
        assert np.array_equal(loaded(inputs).detach().numpy(), small(inputs).detach().numpy())
