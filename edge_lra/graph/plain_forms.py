"""Operators of torch in the plain form that the rules of `passes` know."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def plain_forms() -> dict[Any, Callable[..., torch.Tensor]]:
    """Return what torch.export writes in place of operators, by operator."""
    import torch

    return {torch.ops.aten.scaled_dot_product_attention.default: plain_attention}


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Return softmax(scale q k^T + mask) v, as torch defines scaled_dot_product_attention.

    Args:
        query: (.., heads, tokens, size).
        key: (.., heads, keys, size), or fewer heads with `enable_gqa`.
        value: (.., heads, keys, width) likewise.
        attn_mask: added to the scores, or True where they count.
        dropout_p: 0 in evaluation mode.
        is_causal: let tokens see those before them only.
        scale: of the scores; None for 1 / sqrt(size).
        enable_gqa: repeat heads of keys and values.
    """
    import torch

    if enable_gqa:
        times = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(times, dim=-3) for x in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    lowest = torch.finfo(scores.dtype).min
    if is_causal:
        tokens, keys = scores.shape[-2:]
        place = torch.arange(max(tokens, keys), device=scores.device)
        seen = place[:tokens, None] >= place[None, :keys]
        scores = scores + torch.where(seen, 0.0, lowest).expand(1, 1, tokens, keys)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.where(attn_mask, 0.0, lowest)
    if attn_mask is not None:
        scores = scores + attn_mask.expand(*attn_mask.shape[:-2], *scores.shape[-2:])
    return torch.softmax(scores, -1) @ value
