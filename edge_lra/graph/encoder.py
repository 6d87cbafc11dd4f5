"""One builder for post-norm encoders: embeddings, attention layers, task head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edge_lra.errors import EdgeError
from edge_lra.graph.calibrated import CalibratedWriter
from edge_lra.graph.factors import Slot
from edge_lra.graph.feed_forward import split_feed_forward
from edge_lra.graph.head import write_outputs
from edge_lra.graph.modules import MICROSOFT
from edge_lra.graph.plan import LAYER_OUTPUT, Built, Plan
from edge_lra.graph.reads import linear_reads
from edge_lra.recipe import pad_token_id
from edge_lra.weights import Array, Dense


@dataclass(frozen=True)
class Mask:
    """The key padding mask (batch, sequence) int32, and whether it is 1 throughout."""

    value: ir.Value
    full: ir.Value


class EncoderBuilder(CalibratedWriter):
    """Writes the fused encoder graph of one plan."""

    # ---- blocks ----------------------------------------------------------------------------

    def embeddings(self, ids: ir.Value, token_types: ir.Value | None) -> ir.Value:
        """Sum word, position and token type rows, then normalize."""
        tensors = self.recipe.embeddings
        scheme, graph = self.plan.scheme, self.graph
        words = self.source(tensors["word"])
        word = scheme.embedding(graph, ids, tensors["word"], words, words=True)
        table = tensors["position"]
        held = self.source(table).shape[0]
        wanted = self.recipe.count(self.plan.config, "positions")
        if held < wanted:
            raise EdgeError(
                f"config.json: found {wanted} positions, expected at most the {held} rows of "
                f"{table}; does the config belong to these weights?"
            )
        if self.recipe.position_ids == "range":
            # Gathered, not sliced: an int8 table then serves as the word embedding's does.
            length = graph.op("Shape", [ids], start=1, end=2)
            last = graph.op("Squeeze", [length, graph.ints(0)])
            zero, one = (graph.constant(np.array(i, np.int64)) for i in (0, 1))
            rows = graph.op("Range", [zero, last, one])
            position = scheme.embedding(graph, rows, table, self.source(table))
        else:
            position = scheme.embedding(graph, self.positions(ids), table, self.source(table))
        total = [word, position]
        if token_types is not None:
            name = tensors["token_type"]
            rows = graph.stored(Dense(name, self.source(name)))[0]
            total.append(graph.op("Gather", [rows, token_types]))
        return self.norm(graph.op("Sum", total), tensors["norm"])

    def positions(self, ids: ir.Value) -> ir.Value:
        """Count the tokens that are not padding, from pad_token_id + 1 (RoBERTa)."""
        graph = self.graph
        pad = graph.constant(np.array(pad_token_id(self.plan.config, 1), np.int64))
        used = graph.op(
            "Cast", [graph.op("Not", [graph.op("Equal", [ids, pad])])], to=int(ir.DataType.INT64)
        )
        count = graph.op("CumSum", [used, graph.constant(np.array(1, np.int64))])
        return graph.op("Add", [graph.op("Mul", [count, used]), pad])

    def layer(self, x: ir.Value, mask: Mask, index: int, first_only: bool = False) -> ir.Value:
        """Write one attention and feed-forward layer.

        Args:
            x: (batch, sequence, hidden).
            mask: of the keys.
            index: the layer's number.
            first_only: return the first token's output alone, (batch, 1, hidden): all that a
                head needs of the last layer which reads no other token.
        """
        module = {role: name.format(i=index) for role, name in self.recipe.layer.items()}
        readers = [module[role] for role in ("query", "key", "value")]
        width = self.source(f"{readers[0]}.weight").shape[0]
        heads = self.recipe.head_count(self.plan.config, width)
        asking = self.first_token(x) if first_only else x
        tensors = [self.source(f"{name}.weight").tensor for name in readers]
        # A down factor is shared by those who read one value.
        shared = tensors[1:] if first_only else tensors
        if self.factors.slots.keys() & set(shared):
            self.factors.share(self.exact(x), readers[0].rsplit(".", 1)[0], shared)
        query = self.linear(asking, readers[0])
        key, value = (self.linear(x, name) for name in readers[1:])
        context = self.attention([query, key, value], mask, heads)
        if module["output"] in self.readings:
            self.learn(context, self.readings[module["output"]])
        rest, carried = self.carried(asking, module["output"])
        y = self.linear(context, module["output"], carried)
        x = self.residual_norm(y, rest, module["attention_norm"])
        rest, carried = self.carried(x, module["down"])
        y = self.feed_forward(x, module, carried)
        last = index == self.recipe.count(self.plan.config, "layers") - 1
        return self.residual_norm(y, rest, module["output_norm"], last)

    def feed_forward(
        self, x: ir.Value, module: Mapping[str, str], carried: Array | None
    ) -> ir.Value:
        """Write up projection, activation and down projection, whose bias adds `carried`."""
        together = self.plan.scheme.one_scale(self.source(f"{module['down']}.weight"))
        if together and self.plan.remedies.outliers and not self.layers_inside(module):
            return split_feed_forward(self, x, module, carried)
        inner = self.activation(self.linear(x, module["up"]))
        if module["up"] in self.readings:
            self.learn(inner, self.readings[module["up"]])
        return self.linear(inner, module["down"], carried)

    def first_token(self, x: ir.Value) -> ir.Value:
        """Return x (batch, sequence, hidden) of the first token alone, (batch, 1, hidden)."""
        ends = [self.graph.ints(n) for n in (0, 1, 1)]  # from, to, axis
        first = self.graph.op("Slice", [x, *ends])
        smooth = self.smoothed.get(str(x.name))
        if smooth is not None:
            divided = self.graph.op("Slice", [smooth.value, *ends])
            self.known[str(divided.name)] = self.known[str(smooth.value.name)]
            self.smoothed[str(first.name)] = replace(smooth, value=divided)
        elif str(x.name) in self.known:
            self.known[str(first.name)] = self.known[str(x.name)]
        return first

    def layers_inside(self, module: Mapping[str, str]) -> bool:
        """Say whether an adapter of two layers reads what a split feed-forward block divides."""
        up, down = (
            self.factors.slots.get(self.source(f"{module[role]}.weight").tensor, Slot())
            for role in ("up", "down")
        )
        return up.layers is not None or (down.layers or ("",))[0] == "parallel"

    def attention(self, readers: list[ir.Value], mask: Mask, heads: int) -> ir.Value:
        """Attend to the tokens the mask names.

        onnxruntime's quick kernel takes no mask, so a batch without padding goes without:
        MiniLM 8x128 53.9 -> 47.0 ms, 1x128 6.4 -> 6.1 (1 thread).
        """

        def attend(*masks: ir.Value | None) -> ir.Value:
            inputs = [*readers, *masks]
            context = self.graph.op("MultiHeadAttention", inputs, MICROSOFT, num_heads=heads)
            context.type = ir.TensorType(ir.DataType.FLOAT)
            return context

        return self.graph.choose(mask.full, attend, lambda: attend(None, mask.value))

    def mask(self, given: ir.Value) -> Mask:
        """Prepare the attention mask (batch, sequence) once for all layers."""
        lowest = self.graph.op("ReduceMin", [given], keepdims=0)
        full = self.graph.op("Cast", [lowest], to=int(ir.DataType.BOOL))
        return Mask(self.graph.op("Cast", [given], to=int(ir.DataType.INT32)), full)

    # ---- whole -----------------------------------------------------------------------------

    def build(self) -> Built:
        """Write the whole graph."""
        if self.plan.scheme.smooths or (self.plan.scheme.compensates and self.plan.texts):
            self.readings = self.calibrate()
        tokens: tuple[str, ...] = ("batch", "sequence")
        names = self.recipe.inputs
        values = {name: self.graph.input(name, "int64", tokens) for name in names}
        types = values.get("token_type_ids")
        if types is None and "token_type" in self.recipe.embeddings:
            zero = self.graph.constant(np.array(0, np.int64))
            types = self.graph.op("Mul", [values["input_ids"], zero])
        x = self.embeddings(values["input_ids"], types)
        mask = self.mask(values["attention_mask"])
        head = self.recipe.heads.get(self.plan.task)
        last = self.recipe.count(self.plan.config, "layers") - 1
        for index in range(last + 1):
            first_only = index == last and head is not None and head.first_token
            x = self.layer(x, mask, index, first_only)
            self.rename(x, LAYER_OUTPUT.format(i=index))
        outputs = write_outputs(self, x)
        model = self.graph.model(outputs, self.recipe.family)
        model.metadata_props.update(self.metadata)
        return Built(
            model,
            self.graph,
            tuple((name, tokens) for name in names),
            tuple((name, tuple(shape)) for name, _, shape in outputs),
            tuple(self.factors.inputs),
            min_onnxruntime=self.plan.scheme.min_onnxruntime,
            reads=linear_reads(self) if self.plan.remedies.refit else {},
            finer_sites=tuple(self.finer),
        )


def build_encoder(plan: Plan) -> Built:
    """Return the encoder graph of a plan, its weights unread."""
    return EncoderBuilder(plan).build()
