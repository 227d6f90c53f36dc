"""Units of transformers: attention heads and hidden channels of feed-forward parts.

Tracing ends badly on language models, and it cannot tell heads from channels. What these layers are
called is nearly a standard, so that they are found by the names, types and sizes of the layers of a
module, whatever its class; a match that does not fit in every size is none.

May import: `sigmine`, `sigmine_nn.units`.
"""

from .attention import attention_inputs, find_heads
from .feed_forward import find_mlp_channels
from .ssm import flat_kernel
from .states import (
    StateLayer,
    find_states,
    read_systems,
    sequence_lengths,
    state_layers,
    states_left_out,
)
from .stepping import OneStep

__all__ = [
    "OneStep",
    "StateLayer",
    "attention_inputs",
    "find_heads",
    "find_mlp_channels",
    "find_states",
    "flat_kernel",
    "read_systems",
    "sequence_lengths",
    "state_layers",
    "states_left_out",
]
