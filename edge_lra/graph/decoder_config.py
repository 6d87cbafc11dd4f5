"""A decoder's sizes and variants, read from its config as transformers reads it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.graph.plain_config import plain_config
from edge_lra.graph.rope import Rope, read_rope
from edge_lra.recipe import DecoderRecipe

SLIDING, FULL = "sliding_attention", "full_attention"


@dataclass(frozen=True)
class Layer:
    """What differs between layers.

    Attributes:
        window: how many of the last tokens it attends to; None for all.
        rope: its rotation; None where positions are learned.
    """

    window: int | None
    rope: Rope | None


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and variants of one checkpoint.

    Attributes:
        scale: of attention scores.
        softcap: c in c tanh(score / c) of attention scores; 0 for none.
        logit_softcap: the same of the logits.
    """

    layers: tuple[Layer, ...]
    heads: int
    kv_heads: int
    head_size: int
    positions: int
    epsilon: float
    activation: str
    scale: float
    softcap: float
    logit_softcap: float


def full_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with everything that transformers fills in.

    Raises:
        EdgeError: transformers refuses it.
    """
    plain = plain_config(config)
    if plain is not None:
        return plain
    from transformers import AutoConfig

    given = {name: value for name, value in config.items() if name != "model_type"}
    try:
        with contextlib.redirect_stdout(None):
            return dict(AutoConfig.for_model(config["model_type"], **given).to_dict())
    except Exception as error:  # its checks raise errors of many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise EdgeError(
            f"config.json: found {reason}, expected a {config['model_type']} config that "
            "transformers reads; fetch the checkpoint again"
        ) from None


def read_decoder(
    recipe: DecoderRecipe, config: Mapping[str, Any], context: int | None = None
) -> DecoderConfig:
    """Return what the graph needs to know.

    Args:
        recipe: the family's.
        config: as `full_config` gives it.
        context: positions to keep of the model's; None for all.

    Raises:
        EdgeError: names an entry that is missing, ill-formed or asks for an unknown variant.
    """
    recipe.check(config)
    heads = recipe.count(config, "heads")
    kv_heads = recipe.count(config, "kv_heads") if "kv_heads" in recipe.config else heads
    width = config.get("hidden_size") or config.get("n_embd") or 0
    head_size = config.get("head_dim") or width // heads
    if heads % kv_heads or not head_size:
        raise EdgeError(
            f"config.json: found {heads} heads and {kv_heads} key-value heads of {head_size}, "
            "expected a multiple; fetch the checkpoint again"
        )
    multiple = 8 if "position" in recipe.embeddings else 16
    if head_size % multiple:
        raise EdgeError(
            f"config.json: found heads of {head_size} channels, expected a multiple of {multiple}, "
            "as onnxruntime's GroupQueryAttention needs; export through a module of your own"
        )
    positions = recipe.count(config, "positions")
    if context is not None and not 1 <= context <= positions:
        raise EdgeError(f"context: found {context}, expected 1 to {positions} tokens")
    divisor = config.get("query_pre_attn_scalar") or head_size
    return DecoderConfig(
        layers=tuple(
            read_layer(recipe, config, index, head_size)
            for index in range(recipe.count(config, "layers"))
        ),
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        positions=context or positions,
        epsilon=recipe.small(config, recipe.config["epsilon"], 1e-6),
        activation=str(recipe.size(config, "activation")),
        scale=float(divisor) ** -0.5,
        softcap=float(config.get("attn_logit_softcapping") or 0.0),
        logit_softcap=float(config.get("final_logit_softcapping") or 0.0),
    )


def read_layer(
    recipe: DecoderRecipe, config: Mapping[str, Any], index: int, head_size: int
) -> Layer:
    """Return a layer's window and rotation.

    Raises:
        EdgeError: an attention or a rotation that is not supported.
    """
    window = config.get("sliding_window")
    if config.get("use_sliding_window") is False:
        window = None
    types = config.get("layer_types")
    kind = types[index] if types else (SLIDING if window else FULL)
    if kind not in (SLIDING, FULL):
        raise EdgeError(
            f"config.json: layer {index}: found attention {kind!r}, expected {FULL} or {SLIDING}; "
            "this variant is not supported"
        )
    rope = None
    if "position" not in recipe.embeddings:
        parameters = config.get("rope_parameters") or {}
        rope = read_rope(parameters.get(kind) or parameters, head_size)
    return Layer(window if kind == SLIDING else None, rope)
