"""One builder for pre-norm decoders: embeddings, attention over a cache, last-token logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from edge_lra.blas import one_thread
from edge_lra.graph.decoder_config import DecoderConfig, Layer, read_decoder
from edge_lra.graph.factors import ADAPTER_INDEX
from edge_lra.graph.modules import MICROSOFT
from edge_lra.graph.plan import LAST_TOKENS, LAYER_OUTPUT, Built, Plan
from edge_lra.graph.rope import Rope
from edge_lra.graph.words import WordWriter
from edge_lra.quantize.calibrate import random_tokens
from edge_lra.quantize.decoder_run import TEXTS, TOKENS, DecoderRun, Site
from edge_lra.quantize.decoder_trials import SHARE, DecoderTrials, linears
from edge_lra.quantize.mixed import finer_sites
from edge_lra.quantize.readings import MomentFile
from edge_lra.weights import Array, Dense, Source

# A run of at most so many tokens gives the logits of each: for scoring, and for drafts.
ALL_LOGITS_TOKENS = 16
# Without and with a window: until 1.24 GroupQueryAttention's left the current token out
# (microsoft/onnxruntime#25927), one token more than transformers attends to.
MIN_ONNXRUNTIME = ("1.20.0", "1.24.1")
Value = ir.Value
Output = tuple[str, Value, tuple[int | str, ...]]  # name, value, axes


@dataclass(frozen=True)
class Lengths:
    """What attention needs of the mask.

    Attributes:
        last: (batch,) int32, each row's last position.
        total: () int32, positions of the longest row.
    """

    last: Value
    total: Value


class DecoderBuilder(WordWriter):
    """Writes the decoder graph of one plan."""

    def __init__(self, plan: Plan, context: int | None = None) -> None:
        """Prepare an empty graph for `context` positions; None for the model's."""
        super().__init__(plan)
        self.config: DecoderConfig = read_decoder(self.recipe, plan.config, context)
        self.presents: list[Output] = []
        self._tables: dict[bytes, tuple[Value, Value]] = {}

    # ---- weights ---------------------------------------------------------------------------

    def linear_source(self, module: str) -> Source:
        """Return where a linear's weight (out, in) comes from."""
        source = self.source(f"{module}.weight")
        if not self.recipe.conv1d:
            return source
        return replace(source, transposed=True, shape=source.shape[::-1])

    def has_bias(self, name: str) -> bool:
        """Say whether the checkpoint or an adapter has a bias of this name."""
        return name in self.plan.names or name in self.plan.replacements

    # ---- blocks ----------------------------------------------------------------------------

    def norm(self, x: Value, module: str) -> Value:
        """Normalize the last axis; divide the channels where only a scheme's linears read them."""
        site = self.sites.get(module)
        divided: dict[str, Array] = {} if site is None else {"column_scale": 1 / site.divisor}
        weight = self.vector(f"{module}.weight", offset=self.recipe.norm_offset, **divided)
        parts = [x, weight]
        sizes: dict[str, Any] = {"axis": -1, "epsilon": self.config.epsilon}
        if self.recipe.norm == "rms":
            y = self.graph.op("SimplifiedLayerNormalization", parts, stash_type=1, **sizes)
        else:
            parts.append(self.vector(f"{module}.bias", **divided))
            y = self.graph.op("LayerNormalization", parts, **sizes)
        if site is not None:
            self.mark(y, site)
        return y

    def lengths(self, mask: Value) -> Lengths:
        """Read each row's length off the mask (batch, total), once for all layers."""
        graph, int32 = self.graph, int(ir.DataType.INT32)
        used = graph.op("ReduceSum", [mask, graph.ints(1)], keepdims=0)
        last = graph.op("Cast", [graph.op("Sub", [used, graph.ints(1)])], to=int32)
        shape = graph.op("Shape", [mask])
        total = graph.op("Gather", [shape, graph.constant(np.array(1, np.int64))], axis=0)
        return Lengths(last, graph.op("Cast", [total], to=int32))

    def embed(self, ids: Value, lengths: Lengths) -> Value:
        """Return the tokens' rows, and their positions' where these are learned."""
        names = self.recipe.embeddings
        x = self.words(ids)
        if "position" not in names:
            return x
        rows = self.plan.scheme.embedding(
            self.graph,
            self.positions(ids, lengths),
            names["position"],
            self.source(names["position"]),
        )
        return self.graph.op("Add", [x, rows])

    def positions(self, ids: Value, lengths: Lengths) -> Value:
        """Return the positions (batch, sequence) of the tokens, which end each row."""
        graph, int64 = self.graph, int(ir.DataType.INT64)
        count = graph.op("Shape", [ids], start=1, end=2)
        zero, one = (graph.constant(np.array(i, np.int64)) for i in (0, 1))
        steps = graph.op("Range", [zero, graph.op("Squeeze", [count, graph.ints(0)]), one])
        after = graph.op("Add", [graph.op("Cast", [lengths.last], to=int64), graph.ints(1)])
        first = graph.op("Sub", [after, count])
        return graph.op("Add", [graph.op("Unsqueeze", [first, graph.ints(1)]), steps])

    def tables(self, rope: Rope | None) -> tuple[Value | None, Value | None]:
        """Store cosines and sines once for all layers that turn alike."""
        if rope is None:
            return None, None
        key = rope.frequencies.tobytes()
        if key not in self._tables:
            names = (f"rope.{len(self._tables)}.cos", f"rope.{len(self._tables)}.sin")
            arrays = rope.tables(self.config.positions)
            cosine, sine = (
                self.graph.stored(
                    Dense(n, Source(self.plan.checkpoint, n, a.shape, replacement=a))
                )[0]
                for n, a in zip(names, arrays, strict=True)
            )
            self._tables[key] = cosine, sine
        return self._tables[key]

    def readers(self, x: Value, module: Mapping[str, str]) -> list[Value | None]:
        """Return queries, keys and values; packed as the first where they come as one product."""
        if "packed" in module:
            return [self.linear(x, module["packed"]), None, None]
        names = [module[role] for role in ("query", "key", "value")]
        if "query_norm" not in module:
            packed = self.multiply_joined(x, names)
            if packed is not None:
                return [packed, None, None]
        self.read_together(x, names)
        query, key, value = (self.linear(x, name) for name in names)
        config = self.config
        if "query_norm" in module:
            query = self.head_norm(query, module["query_norm"], config.heads)
            key = self.head_norm(key, module["key_norm"], config.kv_heads)
        return [query, key, value]

    def head_norm(self, x: Value, module: str, heads: int) -> Value:
        """Normalize each head of (batch, sequence, heads x head_size)."""
        size = self.config.head_size
        apart = self.graph.op("Reshape", [x, self.graph.ints(0, 0, heads, size)])
        normed = self.norm(apart, module)
        return self.graph.op("Reshape", [normed, self.graph.ints(0, 0, heads * size)])

    def attention(self, readers: list[Value | None], index: int, lengths: Lengths) -> Value:
        """Attend to the cache, which past and present may share."""
        graph, config = self.graph, self.config
        layer: Layer = config.layers[index]
        shape = ("batch", config.kv_heads, "past_sequence", config.head_size)
        past = [graph.input(name, "float32", shape) for name in cache_names(index)[0]]
        cosine, sine = self.tables(layer.rope)
        inputs = [*readers, *past, lengths.last, lengths.total]
        outputs = graph.ops(
            "GroupQueryAttention",
            inputs if cosine is None else [*inputs, cosine, sine],
            3,
            MICROSOFT,
            num_heads=config.heads,
            kv_num_heads=config.kv_heads,
            scale=config.scale,
            softcap=config.softcap,
            do_rotary=int(cosine is not None),
            local_window_size=layer.window or -1,
        )
        whole = (*shape[:2], "total_sequence", shape[3])
        for value, name in zip(outputs[1:], cache_names(index)[1], strict=True):
            self.presents.append((name, value, whole))
        return outputs[0]

    def feed_forward(self, x: Value, module: Mapping[str, str]) -> Value:
        """Write a gated or a plain feed-forward block."""
        names = [module[role] for role in ("gate", "up") if role in module]
        self.divide_inner(module)
        self.read_together(x, names)
        parts = [self.linear(x, name) for name in names]
        inner = self.activation(parts[0])
        if len(parts) > 1:
            inner = self.graph.op("Mul", [inner, parts[1]])
        site = self.sites.get(module["down"])
        if site is not None:
            self.mark(inner, site, module["up"] in self.row_scales)
        return self.linear(inner, module["down"])

    def divide_inner(self, module: Mapping[str, str]) -> None:
        """Let the up projection's rows divide what the down projection reads, where they can.

        They can where nothing but a product lies between, and no adapter adds to them at run time.
        """
        site, up = self.sites.get(module["down"]), module["up"]
        free = self.source(f"{up}.weight").tensor not in self.plan.slots
        if site is not None and "gate" in module and free:
            self.row_scales[up] = 1 / site.divisor

    def layer(self, x: Value, index: int, lengths: Lengths, first: Value | None = None) -> Value:
        """Write one layer: attention and feed-forward, each before a residual sum.

        Args:
            x: (batch, sequence, hidden).
            index: the layer's number.
            lengths: of the rows.
            first: (1,) of the tokens to return; None for all. The others give keys and values.
        """
        module = {role: name.format(i=index) for role, name in self.recipe.layer.items()}
        readers = self.readers(self.norm(x, module["attention_norm"]), module)
        context = self.attention(readers, index, lengths)
        if first is not None:
            x, context = self.rest(x, first), self.rest(context, first)
            x.name = LAST_TOKENS
        if module["output"] in self.sites:
            self.mark(context, self.sites[module["output"]], divided=False)
        y = self.linear(context, module["output"])
        if "attention_post_norm" in module:
            y = self.norm(y, module["attention_post_norm"])
        x = self.graph.op("Add", [x, y])
        y = self.feed_forward(self.norm(x, module["feed_forward_norm"]), module)
        if "feed_forward_post_norm" in module:
            y = self.norm(y, module["feed_forward_post_norm"])
        return self.graph.op("Add", [x, y])

    def first_wanted(self, ids: Value) -> Value:
        """Return the position (1,) from which on logits are given: the last, or a short run's 0."""
        graph = self.graph
        count = graph.op("Shape", [ids], start=1, end=2)
        long = graph.op("Greater", [count, graph.ints(ALL_LOGITS_TOKENS)])
        chosen = graph.op("Cast", [long], to=int(ir.DataType.INT64))
        return graph.op("Mul", [chosen, graph.op("Sub", [count, graph.ints(1)])])

    def rest(self, x: Value, first: Value) -> Value:
        """Return x (batch, sequence, width) from a position on."""
        return self.graph.op("Slice", [x, first, self.graph.ints(2**31 - 1), self.graph.ints(1)])

    def logits(self, x: Value) -> tuple[Value, Value]:
        """Return the last position's logits, and those of every position in x."""
        x = self.norm(x, self.recipe.final_norm)
        every = self.cap(self.head(x))
        return self.rest(every, self.graph.ints(-1)), every

    def head(self, x: Value) -> Value:
        """Return the logits of hidden states, (.., vocabulary)."""
        module, source = self.recipe.head, self.head_source()
        self.multiply_all(x, [(f"{module}.weight", source)], head=True)
        y = self.multiply(x, f"{module}.weight", source)
        return self.factors.finish(x, y, None, module, source.reads[0], source.shape)

    def cap(self, logits: Value) -> Value:
        """Bound the logits softly, where the family does."""
        if not self.config.logit_softcap:
            return logits
        cap = self.graph.constant(np.array(self.config.logit_softcap, np.float32))
        inner = self.graph.op("Tanh", [self.graph.op("Div", [logits, cap])])
        return self.graph.op("Mul", [inner, cap])

    # ---- whole -----------------------------------------------------------------------------

    def build(self) -> Built:
        """Write the whole graph."""
        if self.plan.scheme.calibrates:
            self.sites = self.calibrate()
        graph = self.graph
        ids = graph.input("input_ids", "int64", ("batch", "sequence"))
        mask = graph.input("attention_mask", "int64", ("batch", "total_sequence"))
        lengths = self.lengths(mask)
        x = self.embed(ids, lengths)
        first = self.first_wanted(ids)
        count = len(self.config.layers)
        for index in range(count):
            x = self.layer(x, index, lengths, first if index == count - 1 else None)
            x.name = LAYER_OUTPUT.format(i=index)
        vocabulary = self.head_source().shape[0]
        last, every = self.logits(x)
        outputs: list[Output] = [
            ("logits", last, ("batch", 1, vocabulary)),
            ("all_logits", every, ("batch", "positions", vocabulary)),
        ]
        model = graph.model([*outputs, *self.presents], self.recipe.family)
        return Built(
            model,
            graph,
            (("input_ids", ("batch", "sequence")), ("attention_mask", ("batch", "total_sequence"))),
            tuple((name, tuple(shape)) for name, _, shape in outputs),
            tuple(self.factors.inputs),
            self.entry(),
            MIN_ONNXRUNTIME[any(layer.window for layer in self.config.layers)],
            finer_sites=tuple(self.finer),
        )

    def calibrate(self) -> dict[str, Site]:
        """Run the float model on text, or on random ids where there is none."""
        head = self.head_source() if self.plan.scheme.smooths_head else None
        parts = self.recipe, self.config, self.source, self.linear_source, self.has_bias
        texts, modules = self.plan.texts, self.mixed_sites()
        if not texts or not (modules or self.compensates):
            vocabulary = self.source(self.recipe.embeddings["word"]).shape[0]
            ids = random_tokens(vocabulary, self.config.positions, -1, TEXTS, TOKENS)
            with one_thread():
                return DecoderRun(*parts).run(list(ids), head)
        with one_thread():
            if not modules:
                return DecoderRun(*parts, MomentFile()).run(texts, head)
            trials = DecoderTrials(*parts, MomentFile(), modules, self.compensates)
            sites = trials.run(texts, head)
        self.finer = finer_sites(trials.changes, SHARE)
        return sites

    def mixed_sites(self) -> list[str]:
        """Return the modules whose bits are to be chosen."""
        if not self.plan.remedies.mixed_bits:
            return []
        names = linears(self.recipe.layer, len(self.config.layers))
        return [n for n in names if self.plan.scheme.chooses_bits(self.linear_source(n))]

    def entry(self) -> dict[str, Any]:
        """Return what the manifest says of the cache and of how to feed it."""
        config = self.config
        layers = range(len(config.layers))
        windows = {layer.window for layer in config.layers}
        return {
            "layers": len(config.layers),
            "kv_heads": config.kv_heads,
            "head_size": config.head_size,
            "context_length": config.positions,
            "window": windows.pop() if len(windows) == 1 else None,
            "cache": [
                {"past": past, "present": present}
                for index in layers
                for past, present in zip(*cache_names(index), strict=True)
            ],
            "all_logits_tokens": ALL_LOGITS_TOKENS,
            "shared_bytes": sum(spec.nbytes for spec in self.graph.views.values()),
            "adapter_index": ADAPTER_INDEX if self.factors.inputs else None,
        }


def cache_names(index: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the names of a layer's past and present keys and values, as onnxruntime-genai's."""
    past = (f"past_key_values.{index}.key", f"past_key_values.{index}.value")
    return past, (f"present.{index}.key", f"present.{index}.value")


def build_decoder(plan: Plan, context: int | None = None) -> Built:
    """Return the decoder graph of a plan, its weights unread."""
    return DecoderBuilder(plan, context).build()
