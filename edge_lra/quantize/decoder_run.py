"""What a decoder's linears read: a float64 run of text or random tokens, some rows at a time.

It finds, for each value that linears read, what to divide its channels by, whether one int8 digit
a row is enough for it, and how its channels hang together. For the first two random ids do as well
as text (SmolLM2-135M); the last takes text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.ahead import ahead
from edge_lra.graph.decoder_config import DecoderConfig
from edge_lra.graph.rope import Rope
from edge_lra.quantize.calibrate import FloatRun
from edge_lra.quantize.digits import ONE, Rounding
from edge_lra.quantize.readings import MomentFile, Reading
from edge_lra.quantize.smooth import COMPENSATED_SHARE, coarse, reader_divisor
from edge_lra.recipe import DecoderRecipe
from edge_lra.weights import Source

Array = npt.NDArray[Any]
TEXTS, TOKENS = 4, 32
# Noise over signal, in power, that one digit may add to a product (SmolLM2-135M, mean KL with
# 0: .0037; 1e-5: .0042; 3e-5: .0055).
ONE_DIGIT_NOISE = 1e-5
# What text may reach over the random ids' largest behind a norm (1.7 was found), beyond which it is
# clipped; two digits have the range to spare.
MARGIN = 4.0


@dataclass(frozen=True)
class Site:
    """What calibration found of one value that linears read.

    Attributes:
        divisor: (in,) what to divide its channels by; the weights' columns take it in.
        noise: of rounding its rows to one digit, over the power of the products, or of the sum
            that a product goes into: with its channels divided, and as they are. Infinite where
            no product was taken.
        reach: the magnitude it stays below, once divided, where a norm sees to that.
        reading: of its channels as they are; None where no covariances were taken.
    """

    divisor: Array
    noise: tuple[float, float]
    reach: float | None = None
    reading: Reading | None = None

    def rounding(self, divided: bool) -> Rounding:
        """Return how its rows are rounded."""
        digits = 1 if self.noise[0 if divided else 1] <= ONE_DIGIT_NOISE else 2
        return Rounding(digits, self.reach if divided else None)


@dataclass
class Columns:
    """Sums over the weights that read one value."""

    largest: Array  # (in,) magnitude
    squares: Array  # (in,)
    power: Array  # (tokens,) of the products; zeros where none was taken


class DecoderRun(FloatRun):
    """A pre-norm decoder in numpy that looks at what its linears read.

    All texts' tokens lie one behind the other: only attention and positions mind where one ends.
    """

    def __init__(
        self,
        recipe: DecoderRecipe,
        config: DecoderConfig,
        source: Callable[[str], Source],
        linear_source: Callable[[str], Source],
        has_bias: Callable[[str], bool],
        moments: MomentFile | None = None,
    ) -> None:
        """Take what the graph's builder knows.

        Args:
            recipe: the family's.
            config: the checkpoint's, read.
            source: finds a recipe tensor's rows.
            linear_source: finds the rows of a linear's weight.
            has_bias: says whether there is a bias of a name.
            moments: where covariances wait; None where none are taken.
        """
        super().__init__(source)
        self.recipe, self.config = recipe, config
        self.linear_source, self.has_bias = linear_source, has_bias
        self.moments = moments
        self.sites: dict[str, Site] = {}

    def run(self, texts: Sequence[Array], head: Source | None) -> dict[str, Site]:
        """Run texts.

        Args:
            texts: each (tokens,) ids.
            head: the head's weight; None where nothing is to be found of what it reads. Its
                product, which no further layer reads, is not taken.

        Returns:
            What was found, by the norm whose output is read; "output" and "down" projections'
            inputs by the projection's module.
        """
        x = self.hidden(texts)
        if head is not None:
            columns = self.columns(x)
            for _ in self.summed(head, columns):
                pass
            self.remember(self.recipe.final_norm, x, columns, bounded=True)
        return self.sites

    def hidden(self, texts: Sequence[Array]) -> Array:
        """Return what the head reads, (tokens, hidden), and remember the layers' sites."""
        ends = np.cumsum([len(ids) for ids in texts])[:-1]
        x = self.embed(texts)
        for index in range(len(self.config.layers)):
            x = self.layer(x, index, ends)
        return self.norm(x, self.recipe.final_norm)

    def layer(self, x: Array, index: int, ends: Array) -> Array:
        """Return a layer's output, (tokens, hidden); texts end at `ends`."""
        names = {role: name.format(i=index) for role, name in self.recipe.layer.items()}
        after = "attention_post_norm" in names
        normed = self.norm(x, names["attention_norm"])
        y = self.attend(normed, names, index, ends, None if after else x)
        x = x + (self.norm(y, names["attention_post_norm"]) if after else y)
        after = "feed_forward_post_norm" in names
        normed = self.norm(x, names["feed_forward_norm"])
        y = self.feed_forward(normed, names, None if after else x)
        return np.asarray(x + (self.norm(y, names["feed_forward_post_norm"]) if after else y))

    def embed(self, texts: Sequence[Array]) -> Array:
        """Return the tokens' rows, with their positions' where these are learned."""
        names = self.recipe.embeddings
        x = self.rows(names["word"], np.concatenate(texts))
        if self.recipe.embedding_scale:
            x = x * x.shape[-1] ** 0.5
        if "position" in names:
            positions = np.concatenate([np.arange(len(ids)) for ids in texts])
            x = x + self.rows(names["position"], positions)
        return x

    def norm(self, x: Array, module: str) -> Array:
        """Normalize the last axis."""
        weight = self.whole(f"{module}.weight") + self.recipe.norm_offset
        if self.recipe.norm == "layer":
            x = x - x.mean(-1, keepdims=True)
        unit = x / np.sqrt((x**2).mean(-1, keepdims=True) + self.config.epsilon)
        y = unit * weight
        return y + self.whole(f"{module}.bias") if self.recipe.norm == "layer" else np.asarray(y)

    # ---- linears ---------------------------------------------------------------------------

    def columns(self, x: Array) -> Columns:
        """Start the sums over the weights that read x."""
        width = x.shape[-1]
        return Columns(np.zeros(width), np.zeros(width), np.zeros(len(x)))

    def product(self, x: Array, source: Source, columns: Columns) -> Array:
        """Return x W^T, and add W to the sums; the next rows are read meanwhile."""
        y = np.empty((len(x), source.shape[0]))
        start = 0
        with closing(ahead(self.summed(source, columns))) as chunks:
            for rows in chunks:
                np.matmul(x, rows.T, out=y[:, start : start + len(rows)])
                start += len(rows)
        columns.power += np.einsum("ij,ij->i", y, y)
        return y

    def summed(self, source: Source, columns: Columns) -> Iterator[Array]:
        """Yield rows of W in float64, added to the sums as they were read."""
        for _, rows, _ in source.rounding_pairs():
            np.maximum(columns.largest, rows.max(axis=0), out=columns.largest)
            np.maximum(columns.largest, -rows.min(axis=0), out=columns.largest)
            columns.squares += np.einsum("ij,ij->j", rows, rows)
            yield rows.astype(np.float64, copy=False)

    def linears(
        self,
        x: Array,
        modules: Sequence[str],
        site: str,
        bounded: bool = False,
        residual: Array | None = None,
    ) -> list[Array]:
        """Return x W^T + b of the modules that read x, and remember x.

        Args:
            x: (tokens, in).
            modules: that read it.
            site: what to remember it as.
            bounded: it comes from a norm.
            residual: what a single module's product is added to.
        """
        columns, found = self.columns(x), []
        for module in modules:
            y = self.product(x, self.linear_source(module), columns)
            name = f"{module}.bias"
            found.append(y + self.whole(name) if self.has_bias(name) else y)
        if residual is not None:
            columns.power = ((residual + found[0]) ** 2).sum(axis=-1)
        self.remember(site, x, columns, bounded)
        return found

    def remember(self, site: str, x: Array, columns: Columns, bounded: bool) -> None:
        """Work out the divisor, and what rounding x's rows to one digit would add."""
        low, high = x.min(axis=0), x.max(axis=0)
        extreme = np.maximum(-low, high)
        share = 1.0 if self.moments is None else COMPENSATED_SHARE
        divisor = reader_divisor(extreme, columns.largest, share)

        def noise(divisor: Array) -> float:
            if not columns.power.any():
                return np.inf
            step = np.abs(x / divisor).max(axis=-1) / ONE
            added = step**2 / 12 * (columns.squares * divisor**2).sum()
            return float((added / np.maximum(columns.power, 1e-30)).mean())

        noises = noise(divisor), noise(np.ones(len(divisor)))
        reach = coarse(MARGIN * float((extreme / divisor).max())) if bounded else None
        reading = None
        if self.moments is not None:
            mean = x.mean(axis=0)
            centred = x - mean
            covariance = self.moments.keep(centred.T @ centred / len(x))
            reading = Reading(low, high, mean, covariance)
        self.sites[site] = Site(divisor, noises, reach, reading)

    # ---- blocks ----------------------------------------------------------------------------

    def attend(
        self, x: Array, names: Mapping[str, str], index: int, ends: Array, residual: Array | None
    ) -> Array:
        """Return causal attention's output, (tokens, hidden); texts end at `ends`."""
        config = self.config
        packed = "packed" in names
        modules = [names["packed"]] if packed else [names[r] for r in ("query", "key", "value")]
        parts = self.linears(x, modules, names["attention_norm"], bounded=True)
        widths = np.array([config.heads, config.kv_heads, config.kv_heads]) * config.head_size
        if packed:
            parts = np.split(parts[0], np.cumsum(widths)[:2], axis=-1)
        by_text = zip(*(np.split(part, ends) for part in parts), strict=True)
        context = np.concatenate([self.context(text, names, index) for text in by_text])
        return self.linears(context, [names["output"]], names["output"], residual=residual)[0]

    def context(self, readers: Sequence[Array], names: Mapping[str, str], index: int) -> Array:
        """Return what one text's queries (tokens, heads x head_size) find in keys and values."""
        config, layer = self.config, self.config.layers[index]
        query, key, value = (self.heads(part) for part in readers)
        if "query_norm" in names:
            query = self.norm(query, names["query_norm"])
            key = self.norm(key, names["key_norm"])
        if layer.rope is not None:
            query, key = rotate(query, layer.rope), rotate(key, layer.rope)
        group = config.heads // config.kv_heads
        key, value = (np.repeat(part, group, axis=0) for part in (key, value))
        scores = query @ key.swapaxes(-1, -2) * config.scale
        if config.softcap:
            scores = np.tanh(scores / config.softcap) * config.softcap
        count = len(readers[0])
        behind = np.subtract.outer(np.arange(count), np.arange(count))
        seen = (behind >= 0) & (behind < (layer.window or count))
        scores = np.where(seen, scores, -np.inf)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        context = powers / powers.sum(-1, keepdims=True) @ value
        return np.asarray(context.swapaxes(0, 1).reshape(count, -1))

    def heads(self, x: Array) -> Array:
        """Return (heads, tokens, head_size)."""
        return x.reshape(len(x), -1, self.config.head_size).swapaxes(0, 1)

    def feed_forward(self, x: Array, names: Mapping[str, str], residual: Array | None) -> Array:
        """Return a gated or a plain feed-forward block's output."""
        gated = "gate" in names
        modules = [names["gate"], names["up"]] if gated else [names["up"]]
        parts = self.linears(x, modules, names["feed_forward_norm"], bounded=True)
        inner = self.activate(parts[0], self.config.activation)
        if gated:
            inner *= parts[1]
        return self.linears(inner, [names["down"]], names["down"], residual=residual)[0]


def rotate(x: Array, rope: Rope) -> Array:
    """Turn each head's halves (heads, tokens, head_size) by their positions' angles."""
    cosine, sine = rope.tables(x.shape[1])
    first, second = np.split(x, 2, axis=-1)
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    return np.concatenate(turned, axis=-1)
