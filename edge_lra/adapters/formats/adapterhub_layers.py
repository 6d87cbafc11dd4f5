"""AdapterHub's adapters of two layers, where they are the project's serial-residual ones.

With `original_ln_before` false, as in Houlsby's (`double_seq_bn`), the adapter reads what the
module returns, h, and adds to it before the block's residual and norm come:

    h' = h + scaling * (U a(D h + d) + u)        adapters/methods/modeling.py, class Adapter

All other placements read or add something else, and are refused by name. Pfeiffer's (`seq_bn`)
reads the norm of h plus the residual and adds to h; a parallel one reads what the block read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edge_lra.adapters.formats.build import Computed, Part, part_of
from edge_lra.adapters.formats.place import Place
from edge_lra.adapters.kinds.layers import PARTS, TYPE
from edge_lra.adapters.kinds.rules import Rules, factor
from edge_lra.adapters.saved import Array, Saved
from edge_lra.errors import EdgeError
from edge_lra.tensor_files import TensorFile

LEGACY = re.compile(r"(?:attention|layer)_text_(?:task|lang)_adapters")
KEY = re.compile(r"(.+)\.adapters\.([^.]+)\.(adapter_down\.0|adapter_up)\.(weight|bias)")
RULES = Rules(
    honoured=frozenset({"non_linearity", "residual_before_ln", "scaling"}),
    inert=frozenset(
        {
            "adapter_residual_before_ln",  # it says where a norm that is refused would stand
            "dropout",
            "factorized_phm_W",
            "factorized_phm_rule",
            "hypercomplex_nonlinearity",
            "init_weights_seed",
            "inv_adapter_reduction_factor",
            "leave_out",
            "learn_phm",
            "mh_adapter",
            "output_adapter",
            "phm_bias",
            "phm_c_init",
            "phm_dim",
            "phm_init_range",
            "phm_rank",
            "reduction_factor",
            "shared_W_phm",
            "shared_phm_rule",
            "stochastic_depth",
        }
    ),
    refused={
        "cross_adapter": False,
        "inv_adapter": None,
        "invertible_adapter": None,
        "is_parallel": False,
        "ln_after": False,
        "ln_before": False,
        "original_ln_after": True,
        "original_ln_before": False,
        "phm_layer": False,
        "use_gating": False,
    },
)
ACTIVATIONS = {
    "gelu": "gelu",
    "linear": "linear",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
RENAMED = {"gelu": "gelu_new", "gelu_orig": "gelu"}  # in configs without a version
# The module whose output each place reads, by the family where the places have names of their own.
NAMED = {
    "distilbert": {"attention_adapters": "attention.out_lin", "output_adapters": "ffn.lin2"},
    "gpt2": {"attention_adapters": "attn.c_proj", "output_adapters": "mlp.c_proj"},
    "llama": {"attention_adapters": "self_attn.o_proj", "output_adapters": "mlp.down_proj"},
    "mistral": {"attention_adapters": "self_attn.o_proj", "output_adapters": "mlp.down_proj"},
}
DENSE = ("bert", "electra", "roberta", "xlm-roberta")  # the place is called `output`, as its module


def read_layers(
    place: Place,
    file: TensorFile,
    inner: Mapping[str, Any],
    whole: Mapping[str, Part],
    more: Mapping[str, Any],
) -> Saved:
    """Return the adapter in the project's own terms.

    Args:
        place: where it was found.
        file: its tensors.
        inner: its settings.
        whole: a head's tensors.
        more: settings that go with the head and the base.

    Raises:
        EdgeError: a setting places it elsewhere, or a tensor is unknown or missing.
    """
    where = str(place.config_file)
    activation, scale = _settings(inner, where, "version" in place.config)
    sites = _sites(file, place.config.get("model_type"))
    rank = max(parts["adapter_down.bias"].shape[0] for parts in sites.values())
    config = {
        **{key: value for key, value in more.items() if value is not None},
        "adapter_type": TYPE,
        "format_version": 1,
        "kind": "serial-residual",
        "activation": activation,
        "rank": rank,
        "scale": scale,
        "sites": sorted(sites),
    }
    steps = {name: part.read for name, part in whole.items()}
    for module, parts in sites.items():
        for name, part in parts.items():
            steps[f"{module}.{name}"] = _padded(part, name, rank)
    return Saved(place.path, "AdapterHub", place.config_file, file.path, config, Computed(steps))


def _settings(inner: Mapping[str, Any], where: str, present: bool) -> tuple[str, float]:
    """Return activation and scale.

    Raises:
        EdgeError: names the setting that cannot be followed.
    """
    for key in ("original_ln_before", "original_ln_after"):
        if inner.get(key, RULES.refused[key]) != RULES.refused[key]:
            raise EdgeError(
                f"{where}: {key}: found {inner[key]!r}, expected {RULES.refused[key]!r}; the "
                "adapter then reads or adds something else than its module's output"
            )
    RULES.check({k: v for k, v in inner.items() if k != "init_weights"}, where)
    if inner.get("residual_before_ln", True) not in (True, False):
        raise EdgeError(
            f"{where}: residual_before_ln: found {inner['residual_before_ln']!r}, expected true; "
            "the adapter then adds the block's residual a second time"
        )
    name = str(inner.get("non_linearity")).lower()
    name = name if present else RENAMED.get(name, name)
    if name not in ACTIVATIONS:
        raise EdgeError(
            f"{where}: non_linearity: found {inner.get('non_linearity')!r}, which is {name}, "
            f"expected one of {', '.join(ACTIVATIONS)}; train with one of these"
        )
    scaling = inner.get("scaling", 1.0)
    if isinstance(scaling, str):
        raise EdgeError(
            f"{where}: scaling: found {scaling!r}, expected a number; a trained scale is not "
            "supported"
        )
    return ACTIVATIONS[name], factor(where, "scaling", scaling)


def _sites(file: TensorFile, family: object) -> dict[str, dict[str, Part]]:
    """Return the four parts of each site, by the module whose output it reads.

    Raises:
        EdgeError: a tensor is unknown, a part is missing or twice there, or sizes do not fit.
    """
    sites: dict[str, dict[str, Part]] = {}
    names = set()
    for key in sorted(file.tensors):
        match = KEY.fullmatch(LEGACY.sub("adapters", key))
        module = _module(match[1], family) if match else None
        if match is None or module is None:
            raise EdgeError(
                f"{file.path}: {key}: found a tensor at no known place of {family!r}, expected "
                f"layers after attention and feed-forward of {', '.join((*DENSE, *NAMED))}"
            )
        names.add(match[2])
        part = f"{match[3].removesuffix('.0')}.{match[4]}"
        if part in sites.setdefault(module, {}):
            raise EdgeError(
                f"{file.path}: {key}: found {module}'s {part} twice, expected it once; "
                "save one adapter"
            )
        sites[module][part] = part_of(file, key)
    if len(names) > 1 or not names:
        found = ", ".join(sorted(names)) or "none"
        raise EdgeError(f"{file.path}: found adapters {found}, expected one; save one alone")
    for module, parts in sites.items():
        _check(parts, f"{file.path}: {module}")
    return sites


def _check(parts: Mapping[str, Part], where: str) -> None:
    if missing := [part for part in PARTS if part not in parts]:
        raise EdgeError(
            f"{where}: found no {missing[0]}, expected it; the adapter is incomplete, save it again"
        )
    found = [parts[part].shape for part in PARTS]
    rank, width = (shape[0] if shape else 0 for shape in (found[1], found[3]))
    if 0 in (rank, width) or found != [(rank, width), (rank,), (width, rank), (width,)]:
        raise EdgeError(
            f"{where}: found layers {found}, expected (k, d), (k,), (d, k) and (d,) of at least 1; "
            "the file is damaged, save it again"
        )


def _module(place: str, family: object) -> str | None:
    """Return the module whose output the adapter at a place reads."""
    if family in DENSE:
        return f"{place}.dense" if place.endswith(".output") else None
    parent, _, last = place.rpartition(".")
    module = NAMED.get(str(family), {}).get(last)
    return None if module is None else f"{parent}.{module}"


def _padded(part: Part, name: str, rank: int) -> Callable[[], Array]:
    """Return how a part is read; of a smaller rank than others, with zeros that change nothing."""
    axis = {"adapter_down.weight": 0, "adapter_down.bias": 0, "adapter_up.weight": 1}.get(name)

    def read() -> Array:
        values = part.read()
        if axis is None or values.shape[axis] == rank:
            return values
        spare = [(0, 0)] * values.ndim
        spare[axis] = (0, rank - values.shape[axis])
        return np.pad(values, spare)

    return read
