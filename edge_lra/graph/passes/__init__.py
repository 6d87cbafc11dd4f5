"""Rewrites of a traced graph, one rule a file; each states its rule and says whether it did it."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edge_lra.graph.passes.drop_idle_mask import drop_idle_mask
from edge_lra.graph.passes.fuse_attention import fuse_attention
from edge_lra.graph.passes.fuse_rms_norm import fuse_rms_norm
from edge_lra.graph.passes.sum_before_norm import sum_before_norm

Pass = Callable[[ir.Model], bool]
# In this order: an attention without a mask takes onnxruntime's quick kernel.
PASSES: tuple[Pass, ...] = (drop_idle_mask, fuse_attention, fuse_rms_norm, sum_before_norm)


def rewrite(model: ir.Model) -> bool:
    """Apply every rule, then remove what nothing reads; say whether anything changed."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    changed = [apply(model) for apply in PASSES]
    RemoveUnusedNodesPass()(model)
    return any(changed)
