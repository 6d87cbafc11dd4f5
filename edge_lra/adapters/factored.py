"""What an adapter becomes as graph inputs: factors, gains, shifts or layers at each linear."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import numpy as np

from edge_lra.adapters.kinds.ia3 import Scaling
from edge_lra.adapters.kinds.layers import LayersBias, LayersWeight
from edge_lra.adapters.kinds.low_rank import Dora, LowRank
from edge_lra.adapters.kinds.lycoris import Hadamard
from edge_lra.adapters.kinds.update import Factors, Shift, Update
from edge_lra.adapters.read import Adapter
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.weights import read_whole


def with_factors(adapter: Adapter, checkpoint: Checkpoint) -> Adapter:
    """Return the adapter with the factors and layers of its sites worked out.

    Raises:
        EdgeError: names a site whose update no graph input can say.
    """
    factors: dict[str, Factors] = {}
    layers = {}
    for tensor, update in adapter.updates.items():
        if isinstance(update, LayersWeight):
            layers[tensor] = update.layers
        elif tensor.endswith(".weight"):
            _check_linear(adapter, tensor, update, checkpoint)
            factors[tensor] = _factors(adapter, tensor, update, checkpoint)
    for tensor, update in adapter.updates.items():
        weight = tensor.removesuffix("bias") + "weight"
        if isinstance(update, Shift) and weight in factors:
            factors[weight] = replace(factors[weight], shift=update.offset)
        elif not tensor.endswith(".weight") and not isinstance(update, Scaling | LayersBias):
            _refuse(adapter, tensor)
    return replace(adapter, factors=factors, layers=layers)


def _check_linear(adapter: Adapter, tensor: str, update: Update, checkpoint: Checkpoint) -> None:
    """Refuse a kernel, and a head and an embedding that were one; the graph refuses other rows."""
    shape = checkpoint.tensors[tensor].shape if tensor in checkpoint.tensors else ()
    if len(shape) != 2 or tensor in {*adapter.ties, *adapter.ties.values()}:
        _refuse(adapter, tensor)


def _factors(adapter: Adapter, tensor: str, update: Update, checkpoint: Checkpoint) -> Factors:
    if isinstance(update, LowRank):
        return update.factors()
    if isinstance(update, Dora):
        weight = read_whole(checkpoint, tensor)
        return replace(update.low_rank.factors(), gain=update.gain(weight))
    if isinstance(update, Hadamard) and "t1" not in update.parts:
        return update.factors()
    if isinstance(update, Scaling) and update.axis == 0:
        gain = update.scale.astype(np.float64) - 1
        bias = tensor.removesuffix("weight") + "bias"
        shift = gain * read_whole(checkpoint, bias) if bias in checkpoint.tensors else None
        return Factors(gain=gain, shift=shift)
    _refuse(adapter, tensor)


def _refuse(adapter: Adapter, tensor: str) -> NoReturn:
    raise EdgeError(
        f"{adapter.path}: {tensor}: found {adapter.kind} there, expected an update of a linear "
        "layer that has low-rank factors or scales its outputs for --factored; use --merge"
    )
