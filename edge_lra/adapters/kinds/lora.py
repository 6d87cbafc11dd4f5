"""LoRA as PEFT saves it, with every option that changes what it computes."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_lra.adapters.kinds.low_rank import Dora, Experts, LowRank
from edge_lra.adapters.kinds.method import Method, Site, Sites, Updates
from edge_lra.adapters.kinds.rules import (
    Rules,
    Scale,
    flag,
    names,
    read_scale,
    warn_unmatched,
    wrong,
)
from edge_lra.adapters.kinds.update import Array, Rows, Shift
from edge_lra.errors import EdgeError

logger = logging.getLogger(__name__)
RULES = Rules(
    honoured=frozenset(
        {
            "alpha_pattern",
            "bias",
            "ensure_weight_tying",
            "fan_in_fan_out",
            "init_lora_weights",
            "lora_alpha",
            "lora_bias",
            "r",
            "rank_pattern",
            "target_parameters",
            "trainable_token_indices",
            "use_dora",
            "use_rslora",
        }
    ),
    inert=frozenset(
        {
            "corda_config",
            "eva_config",
            "loftq_config",
            "lora_dropout",
            "lora_ga_config",
            "megatron_core",
            "qalora_group_size",
        }
    ),
    refused={
        "alora_invocation_tokens": None,
        "arrow_config": None,
        "kasa_config": None,
        "layer_replication": None,
        "megatron_config": None,
        "monteclora_config": None,
        "use_bdlora": None,
        "use_qalora": False,
        "velora_config": None,
    },
)
# These initialisations also change the base weight, which the adapter's file does not hold.
BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")
DOWN, UP = ("lora_A.weight", "lora_embedding_A"), ("lora_B.weight", "lora_embedding_B")
MAGNITUDE, UP_BIAS = "lora_magnitude_vector", "lora_B.bias"
TOKENS = "token_adapter.trainable_tokens_delta"


@dataclass(frozen=True)
class Options:
    """The options that decide what an adapter computes."""

    scale: Scale
    dora: bool
    lora_bias: bool
    target_parameters: tuple[str, ...]
    tokens: Mapping[str, Sequence[int]]  # token ids by the end of a module's name


def parse(config: Mapping[str, Any], where: str) -> Options:
    """Validate a LoraConfig.

    Raises:
        EdgeError: an option's value is not one of PEFT's, or changed the base as well.
    """
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(BASE_CHANGING):
        raise EdgeError(
            f"{where}: init_lora_weights: found {init!r}, which also changed the base weights, "
            "expected an adapter for the plain base; save it with "
            "path_initial_model_for_weight_conversion"
        )
    return Options(
        scale=read_scale(config, where, "lora_alpha"),
        dora=flag(config, where, "use_dora"),
        lora_bias=flag(config, where, "lora_bias"),
        target_parameters=names(config, where, "target_parameters"),
        tokens=read_tokens(config, where),
    )


def read_tokens(config: Mapping[str, Any], where: str) -> dict[str, list[int]]:
    """Return the ids of trained tokens by module; a plain list is for every embedding."""
    key = "trainable_token_indices"
    value = config.get(key) or {}
    by_module = {"": value} if isinstance(value, list) else value
    if not isinstance(by_module, dict) or not all(map(_are_ids, by_module.values())):
        raise wrong(where, key, value, "token ids, each once")
    return dict(by_module)


def _are_ids(ids: object) -> bool:
    if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
        return False
    return len(set(ids)) == len(ids)


def place(module: str, options: Options) -> str:
    """Return the tensor a module's factors are for: its weight, or a target parameter."""
    found = parameters_in(module, options)
    if len(found) > 1 or module.endswith(".base_layer"):
        raise EdgeError(
            f"target_parameters: found several in {module.removesuffix('.base_layer')}, expected "
            "one a module; their order is not in the file, train one"
        )
    return f"{module}.{found[0] if found else 'weight'}"


def parameters_in(module: str, options: Options) -> list[str]:
    """Return the target parameters that a module holds, by their last name."""
    return [
        parameter.rpartition(".")[2]
        for parameter in options.target_parameters
        if f".{module}".endswith("." + parameter.rpartition(".")[0])
    ]


def pattern_name(module: str, options: Options) -> str:
    """Return what rank_pattern and alpha_pattern are held against: PEFT adds the parameter."""
    return place(module, options) if parameters_in(module, options) else module


def check(options: Options, sites: Sites, where: str) -> None:
    """Refuse options whose tensors are not in the file; name patterns that match nothing."""
    warn_unmatched(options.scale, [pattern_name(site, options) for site in sites], where)
    if options.tokens and not any(TOKENS in parts for parts in sites.values()):
        raise EdgeError(
            f"{where}: trainable_token_indices: found ids, but no {TOKENS} in the weights, "
            "expected both; use the config that was saved with these weights"
        )
    for parameter in options.target_parameters:
        module = parameter.rpartition(".")[0]
        if not any(f".{site}".endswith(f".{module}") for site in sites):
            raise EdgeError(
                f"{where}: target_parameters: found {parameter!r}, which matches no adapted "
                f"module, expected one of {', '.join(list(sites)[:3])} ..; "
                "use the config that was saved with these weights"
            )


def read(site: Site, options: Options, _: Mapping[str, Array]) -> Updates:
    """Return a site's low-rank update, with its magnitudes and its bias where it has them."""
    if TOKENS in site.parts:
        return {"weight": trained_rows(site, options)}
    if site.shape is not None and len(site.shape) == 3 and options.target_parameters:
        return {"weight": experts(site, options)}
    update = low_rank(site, options)
    updates: Updates = {"weight": update}
    if options.dora:
        if MAGNITUDE not in site.parts:
            raise EdgeError(
                f"{site.where}: found no {MAGNITUDE}, expected one by use_dora; "
                "use the config that was saved with these weights"
            )
        magnitude = site.parts[MAGNITUDE]
        expected = len(update.up)
        if magnitude.size != expected:
            raise EdgeError(
                f"{site.where}: found {magnitude.size} magnitudes, expected {expected}; "
                "save the adapter again"
            )
        updates["weight"] = Dora(update, magnitude.reshape(-1).astype(np.float64))
    elif MAGNITUDE in site.parts:
        raise EdgeError(
            f"{site.where}: found {MAGNITUDE}, expected none without use_dora; "
            "use the config that was saved with these weights"
        )
    if (UP_BIAS in site.parts) != options.lora_bias:
        found, wanted = ("a", "none") if UP_BIAS in site.parts else ("no", "one")
        raise EdgeError(
            f"{site.where}: found {found} {UP_BIAS}, expected {wanted} by lora_bias; "
            "use the config that was saved with these weights"
        )
    if options.lora_bias:
        if not site.has_bias:
            raise EdgeError(
                f"{site.where}: lora_bias: found a trained bias, but the base has none there; "
                "PEFT cannot merge it either, train without lora_bias"
            )
        updates["bias"] = Shift(site.parts[UP_BIAS].astype(np.float64) * update.scale)
    return updates


def low_rank(site: Site, options: Options) -> LowRank:
    """Check a site's factors against the configured rank and the base weight, where known."""
    embedding = any(name in site.parts for name in (DOWN[1], UP[1]))
    down, up = site.take(DOWN[embedding], UP[embedding])
    if down.ndim < 2 or up.ndim < 2 or len(down) != up.shape[1]:
        weight = f" for a base weight {site.shape}" if site.shape else ""
        raise EdgeError(
            f"{site.where}: found factors {up.shape} and {down.shape}{weight}, expected "
            "(out, rank) and (rank, in); is this adapter for another base?"
        )
    rank = options.scale.site_rank(pattern_name(site.module, options))
    if len(down) != rank:
        raise EdgeError(
            f"{site.where}: found rank {len(down)}, expected {rank} by adapter_config.json; "
            "use the config that was saved with these weights"
        )
    down, up = down.reshape(rank, -1), up.reshape(-1, rank)
    transposed = site.transposed or embedding
    if site.shape is not None:
        flat = (site.shape[0], math.prod(site.shape[1:]))
        site.fits((len(up), down.shape[1]), flat[::-1] if transposed else flat)
    if rank > min(len(up), down.shape[1]):
        size = f"{len(up)}x{down.shape[1]}"
        logger.warning("%s: rank %d is larger than its %s weight's", site.where, rank, size)
    contiguous = np.ascontiguousarray
    scale = options.scale.site_scale(pattern_name(site.module, options))
    return LowRank(contiguous(down), contiguous(up), scale, transposed)


def trained_rows(site: Site, options: Options) -> Rows:
    """Return the embedding rows of trained tokens."""
    (values,) = site.take(TOKENS)
    ids = next((ids for end, ids in options.tokens.items() if site.module.endswith(end)), [])
    count = site.shape[0] if site.shape else None
    if len(ids) != len(values) or (count is not None and max(ids) >= count):
        raise EdgeError(
            f"{site.where}: trainable_token_indices: found {len(ids)} ids for {len(values)} rows "
            f"of a vocabulary of {count}, expected one each; "
            "use the config that was saved with these weights"
        )
    return Rows(np.array(ids, np.int64), values)


def experts(site: Site, options: Options) -> Experts:
    """Return the updates of stacked experts; PEFT's layout of their factors is its own."""
    down, up = site.take(DOWN[0], UP[0])
    assert site.shape is not None
    count, rows, columns = site.shape
    rank = options.scale.site_rank(pattern_name(site.module, options))
    widths = {(columns, rows): False, (rows, columns): True}
    transposed = widths.get((down.shape[1], len(up)))
    if rows == columns or transposed is None or len(down) != count * rank:
        raise EdgeError(
            f"{site.where}: target_parameters: found factors {up.shape} and {down.shape} for "
            f"experts {site.shape}, expected rank {rank} and an oblong weight whose order of axes "
            "they tell; train linear layers"
        )
    return Experts(
        down.reshape(count, rank, -1),
        up.reshape(len(up), rank, count).transpose(2, 0, 1),
        options.scale.site_scale(pattern_name(site.module, options)),
        transposed,
    )


LORA = Method(
    "LORA",
    RULES,
    (*DOWN, *UP, MAGNITUDE, UP_BIAS, TOKENS),
    parse,
    read,
    place=place,
    check=check,
)
