"""Adapters of two layers as files: written after training, read back into a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edge_lra.adapters.kinds.layers import PARTS, TYPE
from edge_lra.errors import EdgeError
from edge_lra.places import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from edge_lra.tensor_files import read_config
from edge_lra.tune.module import Inserted, LowRankAdapter, insert


def save_adapter(
    model: nn.Module, folder: Path, heads: Sequence[str] = (), **settings: Any
) -> None:
    """Write a model's adapters of two layers into an existing folder.

    Args:
        model: one that `insert` changed.
        folder: where to.
        heads: modules written whole, such as a task's head.
        settings: further entries of adapter_config.json: task_type, base_model_name_or_path.

    Raises:
        EdgeError: the model has no such adapters, or of several kinds.
    """
    found = {n: m for n, m in model.named_modules() if isinstance(m, LowRankAdapter)}
    forms = {(m.kind, m.activation, m.adapter_down.out_features, m.scale) for m in found.values()}
    if len(forms) != 1:
        raise EdgeError(f"adapter: found {len(forms)} kinds in the model, expected one")
    kind, activation, rank, scale = forms.pop()
    tensors = {
        f"{name}.{part}": module.get_parameter(part)
        for name, module in found.items()
        for part in PARTS
    }
    for head in heads:
        own = model.get_submodule(head).named_parameters()
        tensors |= {f"{head}.{name}": parameter for name, parameter in own}
    config = {
        "adapter_type": TYPE,
        "format_version": 1,
        "kind": kind,
        "activation": activation,
        "rank": rank,
        "scale": scale,
        "sites": sorted(found),
        "modules_to_save": list(heads),
        **settings,
    }
    flat = {n: p.detach().float().cpu().contiguous() for n, p in sorted(tensors.items())}
    save_file(flat, folder / ADAPTER_WEIGHTS[0])
    text = json.dumps(config, indent=2) + "\n"
    (folder / ADAPTER_CONFIG).write_text(text, encoding="utf-8")


def is_layers(folder: Path) -> bool:
    """Say whether a folder holds an adapter of two layers."""
    return read_config(folder / ADAPTER_CONFIG).get("adapter_type") == TYPE


def load_adapter(model: nn.Module, folder: Path) -> Inserted:
    """Insert a saved adapter into a model and load its values, its head's included.

    Raises:
        EdgeError: the file does not fit the model.
    """
    config = read_config(folder / ADAPTER_CONFIG)
    inserted = insert(
        model,
        config["sites"],
        config["kind"],
        config["rank"],
        config["activation"],
        config["scale"],
    )
    file = folder / ADAPTER_WEIGHTS[0]
    tensors = load_file(file)
    state = model.state_dict()
    for name, tensor in tensors.items():
        if name not in state or state[name].shape != tensor.shape:
            raise EdgeError(
                f"{file}: {name}: found {tuple(tensor.shape)}, expected it in the model"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
    return inserted
