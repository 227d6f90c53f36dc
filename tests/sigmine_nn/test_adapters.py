"""Heads and feed-forward channels of transformers, found by the names of their layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigmine_nn.adapters import attention_inputs, find_heads, find_mlp_channels
from sigmine_nn.adapters.hugging_face import native_config
from sigmine_nn.discovery import find_units
from sigmine_nn.exceptions import ModelError, TracingError
from sigmine_nn.masks import apply_masks
from sigmine_nn.surgery import largest_difference, plan_removal, remove_units
from sigmine_nn.units import Role
from tests import networks
from tests.networks import images, random_keep, state_of, tokens


def hugging_face(name: str, **options: Any) -> nn.Module:
    """A tiny model of transformers with random weights, biases too."""
    transformers = pytest.importorskip("transformers")
    size = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    common = {**size, "intermediate_size": 40, "pad_token_id": 0, "bos_token_id": 1,
              "eos_token_id": 2}  # fmt: skip
    special: dict[str, dict[str, Any]] = {
        "OPTForCausalLM": {**size, "ffn_dim": 40, "max_position_embeddings": 32,
                           "word_embed_proj_dim": 32, "bos_token_id": 1, "eos_token_id": 2},
        "BloomForCausalLM": {"vocab_size": 50, "hidden_size": 32, "n_layer": 2, "n_head": 4},
        "ViTForImageClassification": {**common, "image_size": 8, "patch_size": 2,
                                      "num_channels": 1, "num_labels": 10},
        "DistilBertModel": {"vocab_size": 50, "dim": 32, "hidden_dim": 40, "n_layers": 2,
                            "n_heads": 4},
    }  # fmt: skip
    model_class = getattr(transformers, name)
    arguments = {**special.get(name, common), **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = model_class(model_class.config_class(**arguments))
        for parameter in model.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=parameter.detach().mean().item(), std=0.2)
            elif parameter.std() < 0.1:
                nn.init.normal_(parameter, std=0.15)
    return model.eval()


def llama(**options: Any) -> nn.Module:
    pytest.importorskip("transformers")
    return networks.llama(**options)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "vit": networks.vit,
    "grouped vit": lambda: networks.vit(n_kv_heads=2),
    "llama": lambda: llama(n_kv_heads=4),
    "grouped llama": llama,
    "llama with biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "one key-value head": lambda: llama(n_kv_heads=1),
    "opt": lambda: hugging_face("OPTForCausalLM"),
    "bert": lambda: hugging_face("BertModel"),
    "hf vit": lambda: hugging_face("ViTForImageClassification"),
    "qwen3": lambda: hugging_face("Qwen3ForCausalLM", num_key_value_heads=2, head_dim=8),
    "neox": lambda: hugging_face("GPTNeoXForCausalLM"),
    "distilbert": lambda: hugging_face("DistilBertModel"),
    "bloom": lambda: hugging_face("BloomForCausalLM"),
}


def inputs_of(name: str) -> Tensor:
    return images() if "vit" in name else tokens()


@pytest.mark.parametrize("kind", ["head", "mlp_channel"])
@pytest.mark.parametrize("name", MODELS)
def test_masked_and_removed_transformers_agree(name, kind):
    model, inputs = MODELS[name](), inputs_of(name)
    before = state_of(model)
    units = find_units(model, kind, inputs)
    assert units.left_out == {}
    assert len(units) == 2  # layers
    assert state_of(model) == before
    if name == "bloom" and kind == "head":
        return  # see below
    for seed in range(3):
        keep = random_keep(units, seed)
        small, _ = remove_units(model, units, keep, example_inputs=inputs)
        if keep.all():
            assert largest_difference(model, small, inputs) == 0.0


@pytest.mark.parametrize("name", ["grouped vit", "grouped llama", "bert", "neox"])
def test_they_agree_in_double_precision(name):
    model, inputs = MODELS[name]().double(), inputs_of(name)
    if inputs.is_floating_point():
        inputs = inputs.double()
    for kind in ("head", "mlp_channel"):
        units = find_units(model, kind, inputs)
        # float32 stays inside: norms and softmax of transformers
        remove_units(model, units, random_keep(units), example_inputs=inputs, tolerance=1e-6)


def test_a_head_removed_is_attention_without_it():
    """Known truth: attention is a sum over heads, computed head by head with plain loops."""
    model = networks.vit(n_layers=1, n_kv_heads=2)
    attention = model.layers[0].attention
    x = torch.randn(2, 5, 16)

    def by_hand(heads: list[int]) -> Tensor:
        out = attention.out_proj.bias.expand(2, 5, -1).clone()
        for h in heads:
            kv = h // 2  # two queries share a key-value head
            rows, shared = slice(4 * h, 4 * h + 4), slice(4 * kv, 4 * kv + 4)
            q = F.linear(x, attention.q_proj.weight[rows], attention.q_proj.bias[rows])
            k = F.linear(x, attention.k_proj.weight[shared], attention.k_proj.bias[shared])
            v = F.linear(x, attention.v_proj.weight[shared], attention.v_proj.bias[shared])
            weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(4), dim=-1)
            out = out + weights @ v @ attention.out_proj.weight[:, rows].T
        return out

    units = find_units(model, "head")
    torch.testing.assert_close(attention(x), by_hand([0, 1, 2, 3]))
    for keep, heads in (([True, False], [0, 1]), ([False, True], [2, 3])):
        small, _ = remove_units(model, units, keep, example_inputs=images())
        torch.testing.assert_close(small.layers[0].attention(x), by_hand(heads))


def test_the_unit_of_grouped_queries_is_a_key_value_head_with_its_queries():
    units = find_units(llama(), "head", tokens())
    group = units[0]
    assert group.name == "model.layers.0.self_attn"
    assert group.n_units == 2
    index = {s.parameter.split(".")[-2]: s.index for s in group.slices}
    assert index["q_proj"][1].tolist() == list(range(16, 32))
    assert index["k_proj"][1].tolist() == index["v_proj"][1].tolist() == list(range(8, 16))
    assert index["o_proj"][1].tolist() == list(range(16, 32))


def test_attributes_that_count_heads_shrink():
    model = networks.vit(n_kv_heads=2)
    units = find_units(model, "head", images())
    small, plan = remove_units(model, units, [True, False, True, True], example_inputs=images())
    attention = small.layers[0].attention
    assert (attention.num_heads, attention.num_key_value_heads, attention.head_dim) == (2, 1, 4)
    assert (small.layers[1].attention.num_heads, model.layers[0].attention.num_heads) == (4, 4)
    assert plan.attributes == {
        "layers.0.attention": {"num_heads": 2, "num_key_value_heads": 1},
    }
    bert = MODELS["bert"]()
    units = find_units(bert, "head", tokens())
    small, _ = remove_units(bert, units, [True, False, False] + [True] * 5)
    first = small.encoder.layer[0].attention.self
    assert (first.num_attention_heads, first.all_head_size) == (2, 16)


def test_heads_of_bloom_are_masked_and_not_removed():
    model, inputs = MODELS["bloom"](), tokens()
    units = find_units(model, "head", inputs)
    group = units[0]
    rows = next(s for s in group.slices if s.role is Role.OUT)
    assert rows.index[1].tolist() == list(range(24, 48))  # query, key and value of head 1
    keep = np.array([True, False, True, True] * 2)
    with pytest.raises(ModelError, match="ALiBi"):
        plan_removal(model, units, keep)
    # Masks are exact: the columns of the head in the layer behind are all that matter.
    expected = copy.deepcopy(model)
    with torch.no_grad():
        for block in expected.transformer.h:
            block.self_attention.dense.weight[:, 8:16] = 0
    apply_masks(model, units, keep)
    assert largest_difference(expected, model, inputs) == 0.0


def test_tied_weights_stay_tied():
    model = hugging_face("OPTForCausalLM")
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight
    for kind in ("head", "mlp_channel"):
        units = find_units(model, kind, tokens())
        small, _ = remove_units(model, units, random_keep(units), example_inputs=tokens())
        assert small.lm_head.weight is small.model.decoder.embed_tokens.weight


def test_tracing_a_language_model_does_not_end_and_is_ended():
    model = llama()  # torch-pruning goes round in circles in grouped queries
    before = state_of(model)
    with pytest.raises(TracingError, match="'head', 'mlp_channel'"):
        find_units(model, "channel", tokens(), time_limit=0.5)
    assert state_of(model) == before


def test_norms_over_all_heads_are_no_place_to_cut():
    model, inputs = hugging_face("Olmo2ForCausalLM", num_key_value_heads=2), tokens()
    groups = find_heads(model)
    assert [g.removable for g in groups] == [False, False]
    assert "mixes the heads" in groups[0].reason
    with pytest.raises(ModelError, match="left out"):  # and shutting heads off is not enough
        find_units(model, "head", inputs)


class Counting(networks.Attention):
    """A parameter with a number a head, as a table of relative positions is."""

    def __init__(self) -> None:
        super().__init__(16, 4)
        self.sinks = nn.Parameter(torch.zeros(4))


def test_parameters_that_count_heads_forbid_removal():
    (group,) = find_heads(nn.Sequential(Counting()))
    assert not group.removable
    assert "'sinks'" in group.reason


class Between(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 8)


def test_a_norm_between_feed_forward_layers_forbids_removal():
    (group,) = find_mlp_channels(Between())
    assert not group.removable
    assert "norm.weight" in group.reason


def test_sizes_that_do_not_fit_are_no_match():
    attention = networks.Attention(16, 4)
    assert len(find_heads(attention)) == 1
    assert find_heads(attention)[0].name == ""
    for change in (
        {"num_heads": 3, "head_dim": None},
        {"head_dim": 5},
        {"k_proj": nn.Linear(16, 12)},
        {"v_proj": nn.Linear(16, 15)},
        {"out_proj": nn.Linear(12, 16)},
        {"head_dim": None, "num_heads": None},
    ):
        other = networks.Attention(16, 4)
        for name, value in change.items():
            setattr(other, name, value)
        assert find_heads(other) == [], change
    del attention.v_proj
    assert find_heads(attention) == []
    mlp = networks.Mlp(8, 12)
    mlp.fc2 = nn.Linear(10, 8)
    assert find_mlp_channels(mlp) == []


def test_projections_of_heads_are_known_by_name():
    assert attention_inputs(networks.vit(n_layers=1)) == {
        f"layers.0.attention.{name}_proj" for name in "qkv"
    }
    assert attention_inputs(networks.mlp()) == set()
    name = "transformer.h.1.self_attention.query_key_value"
    assert name in attention_inputs(MODELS["bloom"]())


def test_wrong_groupings_show_on_the_network():
    """Queries that use key-value heads in turn (0, 1, 0, 1): not what the adapter takes for it."""

    class Turns(networks.Attention):
        def forward(self, x: Tensor) -> Tensor:
            n, length, _ = x.shape
            q, k, v = (
                layer(x).view(n, length, -1, 4).transpose(1, 2)
                for layer in (self.q_proj, self.k_proj, self.v_proj)
            )
            y = F.scaled_dot_product_attention(q, k.repeat(1, 2, 1, 1), v.repeat(1, 2, 1, 1))
            return self.out_proj(y.transpose(1, 2).reshape(n, length, -1))

    model = nn.Sequential(Turns(16, 4, 2))
    assert len(find_units(model, "head")) == 1  # nothing is known without inputs
    with pytest.raises(ModelError, match="belong to others"):
        find_units(model, "head", torch.randn(2, 5, 16))


# -- Configurations of Hugging Face -------------------------------------------------------------


def uniform(units: Any, n: int) -> np.ndarray:
    keep = np.zeros(units.n, dtype=bool)
    rng = np.random.default_rng(0)
    for group in units:
        keep[units.range_of(group.name).start + rng.permutation(group.n_units)[:n]] = True
    return keep


def reloaded(model: nn.Module, folder: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    saved = copy.deepcopy(model)
    saved.config = native_config(model)
    saved.save_pretrained(folder)
    return type(model).from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "kind", "n"),
    [("grouped llama", "head", 1), ("llama", "head", 2), ("llama", "mlp_channel", 17),
     ("opt", "mlp_channel", 13), ("qwen3", "head", 1), ("hf vit", "mlp_channel", 9)],
)  # fmt: skip
def test_a_uniform_model_reloads_with_its_own_configuration(name, kind, n, tmp_path):
    model, inputs = MODELS[name](), inputs_of(name)
    units = find_units(model, kind, inputs)
    small, _ = remove_units(model, units, uniform(units, n), example_inputs=inputs)
    assert largest_difference(small, reloaded(small, tmp_path), inputs) == 0.0
    assert model.config.num_attention_heads == 4  # the model's own is left alone


@pytest.mark.parametrize(
    ("name", "kind", "n", "message"),
    [
        ("llama", "head", 3, "does not take"),  # 32 is no multiple of 3
        ("opt", "head", 2, "cannot say|does not take"),
        ("bloom", "mlp_channel", 9, "cannot say"),
    ],
)
def test_what_a_configuration_cannot_say(name, kind, n, message):
    model = MODELS[name]()
    units = find_units(model, kind, tokens())
    small, _ = remove_units(model, units, uniform(units, n), example_inputs=tokens())
    with pytest.raises(ModelError, match=message):
        native_config(small)


def test_layers_of_different_sizes_have_no_configuration():
    model = MODELS["llama"]()
    units = find_units(model, "head", tokens())
    small, _ = remove_units(model, units, [True] * 7 + [False], example_inputs=tokens())
    with pytest.raises(ModelError, match="different sizes"):
        native_config(small)
    with pytest.raises(ModelError, match="has no config"):
        native_config(networks.vit())
