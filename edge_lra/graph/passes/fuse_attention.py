"""softmax(scale q k^T + bias) v becomes com.microsoft.MultiHeadAttention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edge_lra.graph.passes.match import (
    add_ints,
    axis,
    insert,
    made_by,
    number_beside,
    only_reader,
    perm,
    rank,
    replace,
    static,
)

HEADS_FIRST = (0, 2, 1, 3)  # (batch, tokens, heads, size) <-> (batch, heads, tokens, size)


@dataclass(frozen=True)
class Attention:
    """One attention: queries, keys and values (batch, tokens, heads, size), and its sizes.

    Attributes:
        biases: (batch or 1, heads or 1, tokens, keys) each.
        last: the product with the values.
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    biases: tuple[ir.Value, ...]
    scale: float
    last: ir.Node


def fuse_attention(model: ir.Model) -> bool:
    """Write attentions as one node each; say whether there was one.

    A value's axes that a Transpose brought in front go back, so that no copy is made. int8, one
    thread, with / without: T5-base 1x512 320.5 / 329.4 ms and 295 / 306 MiB, ViT-base batch 8
    712 / 736 ms; batch 1 (197 tokens) 84.8 / 83.1, for the kernel has costs of its own.
    """
    sums: dict[tuple[str | None, ...], ir.Value] = {}  # of biases, for all layers that add them
    changed = False
    for node in list(model.graph):
        found = _match(node) if node.op_type == "Softmax" and not node.domain else None
        if found is not None:
            _write(model, found, sums)
            changed = True
    return changed


def _match(softmax: ir.Node) -> Attention | None:
    last = only_reader(softmax.outputs[0])
    if axis(softmax, -1) not in (-1, 3) or last is None or last.op_type != "MatMul":
        return None
    if last.inputs[0] is not softmax.outputs[0]:
        return None
    scores, biases = _split_biases(softmax.inputs[0])
    scores, scale = _split_scale(scores)
    product = made_by(scores, "MatMul")
    if product is None:
        return None
    query, turned = product.inputs
    key = _keys(turned)
    query, value = _tokens_first(query), _tokens_first(last.inputs[1])
    if query is None or key is None or value is None:
        return None
    sizes = {(static(x, 2), static(x, 3)) for x in (query, key)}
    if len(sizes) != 1 or None in next(iter(sizes)) or static(value, 2) != static(query, 2):
        return None
    if static(value, 3) is None or not all(map(_fits, biases)):
        return None
    return Attention(query, key, value, biases, scale, last)


def _split_biases(scores: ir.Value | None) -> tuple[ir.Value | None, tuple[ir.Value, ...]]:
    """Return the scaled product among the terms of a sum, and the other terms."""
    add = made_by(scores, "Add")
    if add is None:
        return scores, ()
    for left, right in (add.inputs, tuple(reversed(add.inputs))):
        product, biases = _split_biases(left)
        if right is not None and made_by(_split_scale(product)[0], "MatMul") is not None:
            return product, (*biases, right)
    return scores, ()


def _split_scale(scores: ir.Value | None) -> tuple[ir.Value | None, float]:
    node = made_by(scores, "Mul", "Div")
    beside = number_beside(node) if node is not None else None
    if node is None or beside is None:
        return scores, 1.0
    number, rest = beside
    if node.op_type == "Mul":
        return rest, number
    return (rest, 1 / number) if node.inputs[0] is rest else (scores, 1.0)


def _keys(turned: ir.Value | None) -> ir.Value | None:
    """Return the keys, tokens first, of (batch, heads, size, tokens)."""
    node = made_by(turned, "Transpose")
    if node is None or node.inputs[0] is None:
        return None
    if perm(node) == (0, 2, 3, 1):
        return node.inputs[0]
    return _tokens_first(node.inputs[0]) if perm(node) == (0, 1, 3, 2) else None


def _tokens_first(x: ir.Value | None) -> ir.Value | None:
    """Return (batch, tokens, heads, size) of a value with heads first."""
    node = made_by(x, "Transpose")
    if node is not None and perm(node) == HEADS_FIRST:
        return node.inputs[0]
    if x is None or x.shape is None or len(x.shape) != 4:
        return None
    maker = x.producer()
    if maker is None:
        return None
    shape = [x.shape[place] for place in HEADS_FIRST]
    assert maker.graph is not None
    turned = ir.Node("", "Transpose", [x], [ir.AttrInt64s("perm", HEADS_FIRST)], num_outputs=1)
    turned.outputs[0].type, turned.outputs[0].shape = x.type, ir.Shape(shape)
    maker.graph.insert_after(maker, turned)
    return turned.outputs[0]


def _fits(bias: ir.Value) -> bool:
    """Say whether a bias has the axes that the kernel reads; it repeats only the first two."""
    return rank(bias) == 4 and static(bias, 2) != 1 and static(bias, 3) != 1


def _sum(found: Attention, sums: dict[tuple[str | None, ...], ir.Value]) -> ir.Value | None:
    """Return what is added to the scores, written once for all layers; None for nothing."""
    if not found.biases:
        return None
    total = found.biases[0]
    for place, bias in enumerate(found.biases[1:]):
        key = tuple(value.name for value in found.biases[: place + 2])
        if key not in sums:
            sums[key] = insert(found.last, "Add", [total, bias], None)
        total = sums[key]
    return total


def _write(model: ir.Model, found: Attention, sums: dict[tuple[str | None, ...], ir.Value]) -> None:
    heads, last = static(found.query, 2), found.last
    flat = [_flat(model, x, last) for x in (found.query, found.key, found.value)]
    given: dict[str, Any] = {"num_heads": heads, "scale": found.scale}
    bias = _sum(found, sums)
    inputs = flat if bias is None else [*flat, None, None, bias]
    assert found.query.shape is not None
    size = static(found.value, 3)
    assert heads is not None and size is not None
    batch, tokens = found.query.shape[0], found.query.shape[1]
    shape = [batch, tokens, heads * size]
    y = insert(last, "MultiHeadAttention", inputs, shape, "com.microsoft", **given)
    split = add_ints(model, f"split_{heads}x{size}", (0, 0, heads, size))
    y4 = insert(last, "Reshape", [y, split], [batch, tokens, heads, size])
    turned = insert(last, "Transpose", [y4], [batch, heads, tokens, size], perm=HEADS_FIRST)
    old = last.outputs[0]
    for back in [n for n in old.consumers() if n.op_type == "Transpose" and perm(n) == HEADS_FIRST]:
        for join in back.outputs[0].consumers():
            joined = join.outputs[0]
            if join.op_type == "Reshape" and joined.shape == y.shape:
                replace(joined, y)
        replace(back.outputs[0], y4)
    replace(old, turned)
    model.graph.remove(last, safe=True)


def _flat(model: ir.Model, x: ir.Value, before: ir.Node) -> ir.Value:
    """Return (batch, tokens, heads x size): what was split into heads, where that is so."""
    assert x.shape is not None
    heads, size = static(x, 2), static(x, 3)
    assert heads is not None and size is not None
    split = made_by(x, "Reshape")
    whole = split.inputs[0] if split is not None else None
    if whole is not None and rank(whole) == 3 and static(whole, 2) == heads * size:
        assert whole.shape is not None
        if whole.shape[0] == x.shape[0] and whole.shape[1] == x.shape[1]:
            return whole
    join = add_ints(model, f"join_{heads * size}", (0, 0, heads * size))
    return insert(before, "Reshape", [x, join], [x.shape[0], x.shape[1], heads * size])
