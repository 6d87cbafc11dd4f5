"""Add(x, Where(all true, 0, y)) is x."""

from __future__ import annotations

import onnx_ir as ir

from edge_lra.graph.passes.match import constant, made_by, rank, replace, scalar


def drop_idle_mask(model: ir.Model) -> bool:
    """Remove an attention mask that hides nothing; say whether there was one.

    transformers builds one for images too: (batch, 1, tokens, tokens) of zeros, which keeps
    onnxruntime from its quick attention kernel. ViT-base, one thread, with / without: 83.9 / 85.9
    ms in int8, 208 / 215 in float32.
    """
    changed = False
    for node in list(model.graph):
        if node.op_type != "Add" or node.domain:
            continue
        for mask, kept in (node.inputs, reversed(node.inputs)):
            if mask is None or kept is None or not _hides_nothing(mask):
                continue
            if rank(kept) is None or rank(kept) != rank(node.outputs[0]):
                continue
            replace(node.outputs[0], kept)
            model.graph.remove(node, safe=True)
            changed = True
            break
    return changed


def _hides_nothing(mask: ir.Value) -> bool:
    where = made_by(mask, "Where")
    if where is None:
        return False
    condition, shown, _ = where.inputs
    while (expand := made_by(condition, "Expand")) is not None:
        condition = expand.inputs[0]
    always = constant(condition)
    return always is not None and bool(always.all()) and scalar(shown) == 0
