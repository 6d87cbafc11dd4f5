"""What a model's linears read: a float64 run of text, or of random tokens, a few rows at a time.

Needs no torch, and holds one activation and one chunk of a weight. float64, and coarse steps in
what is made of it, keep the result the same on every CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.quantize.readings import MomentFile, Reading
from edge_lra.recipe import EncoderRecipe, pad_token_id
from edge_lra.weights import Source

Array = npt.NDArray[Any]
# MiniLM, mean 1 - cosine of 64 texts' hidden states with float: .0013 (weights alone: .0032;
# 2176 tokens: .0012).
TEXTS, TOKENS = 4, 64


def random_tokens(
    vocabulary: int, longest: int, pad_id: int, texts: int = TEXTS, tokens: int = TOKENS
) -> Array:
    """Return random ids (texts, tokens) without padding."""
    ids = np.random.default_rng(0).integers(0, vocabulary, (texts, min(tokens, longest)))
    return np.where(ids == pad_id, (pad_id + 1) % vocabulary, ids)


class FloatRun:
    """Reads weights for a run in numpy."""

    def __init__(self, source: Callable[[str], Source]) -> None:
        """Take what finds a recipe tensor's rows."""
        self.source = source

    def whole(self, name: str) -> Array:
        """Read a small tensor."""
        return np.concatenate([rows for _, rows in self.source(name).chunks()])

    def rows(self, name: str, ids: Array) -> Array:
        """Return an embedding's rows for ids of any shape."""
        unique, places = np.unique(ids, return_inverse=True)
        source = self.source(name)
        source = replace(source, rows=unique, shape=(len(unique), *source.shape[1:]))
        table = np.concatenate([rows for _, rows in source.chunks()])
        return np.asarray(table[places.reshape(ids.shape)])

    @staticmethod
    def activate(x: Array, name: str) -> Array:
        """Apply an activation; Gelu by its tanh form: near enough for a magnitude."""
        if name == "relu":
            return np.maximum(x, 0)
        if name in ("silu", "swish"):
            return np.asarray(x / (1 + np.exp(-np.clip(x, -700, None))))
        return np.asarray(
            x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * (x * x * x))))
        )


class EncoderRun(FloatRun):
    """A post-norm encoder in numpy that remembers what its linears read.

    All texts' tokens lie one behind the other: only attention minds where a text ends.
    """

    def __init__(
        self,
        recipe: EncoderRecipe,
        config: Mapping[str, Any],
        epsilon: float,
        source: Callable[[str], Source],
        moments: MomentFile | None = None,
    ) -> None:
        """Take what the graph's builder knows; `source` finds a recipe tensor's rows.

        Args:
            recipe: the family's.
            config: the checkpoint's.
            epsilon: of the norms.
            source: finds a recipe tensor's rows.
            moments: where covariances wait; None where none are taken.
        """
        super().__init__(source)
        self.recipe, self.config, self.epsilon = recipe, config, epsilon
        self.moments = moments
        self.readings: dict[str, Reading] = {}

    def run(self, texts: Sequence[Array], types: Sequence[Array] = ()) -> dict[str, Reading]:
        """Run texts.

        Args:
            texts: each (tokens,) ids.
            types: of each text's tokens, which of a pair they are of; none for 0 throughout.

        Returns:
            The readings of every norm's output, of every feed-forward activation by the name of
            its up projection, and of every attention's context by the name of the linear that
            reads it.
        """
        ends = np.cumsum([len(ids) for ids in texts])[:-1]
        x = self.embed(texts, types)
        for index in range(self.recipe.count(self.config, "layers")):
            names = {role: name.format(i=index) for role, name in self.recipe.layer.items()}
            x = self.layer(x, names, ends)
        return self.readings

    def layer(self, x: Array, names: Mapping[str, str], ends: Array) -> Array:
        """Return a layer's output, (tokens, hidden); texts end at `ends`."""
        x = self.norm(x + self.attend(x, names, ends), names["attention_norm"])
        activation = str(self.recipe.size(self.config, "activation"))
        inner = self.activate(self.linear(x, names["up"]), activation)
        self.remember(names["up"], inner)
        return self.norm(x + self.linear(inner, names["down"]), names["output_norm"])

    def embed(self, texts: Sequence[Array], types: Sequence[Array] = ()) -> Array:
        """Return the normalized sum of word, position and token type rows, (tokens, hidden)."""
        names = self.recipe.embeddings
        first = 0
        if self.recipe.position_ids == "after_padding":
            first = pad_token_id(self.config, 1) + 1
        positions = np.concatenate([first + np.arange(len(ids)) for ids in texts])
        x = self.rows(names["word"], np.concatenate(texts))
        x = x + self.rows(names["position"], positions)
        if "token_type" in names:
            of = np.concatenate(types) if types else np.zeros(1, np.int64)
            x = x + self.rows(names["token_type"], of)
        return self.norm(x, names["norm"])

    def linear(self, x: Array, module: str) -> Array:
        """Return x W^T + b."""
        y = np.empty((*x.shape[:-1], self.source(f"{module}.weight").shape[0]))
        for start, rows in self.weight(module):
            y[..., start : start + len(rows)] = x @ rows.T
        return np.asarray(y + self.whole(f"{module}.bias"))

    def weight(self, module: str) -> Iterator[tuple[int, Array]]:
        """Yield (first row, rows) of a linear's weight."""
        return self.source(f"{module}.weight").chunks()

    def attend(self, x: Array, names: Mapping[str, str], ends: Array) -> Array:
        """Return multi-head attention's output, (tokens, hidden); texts end at `ends`."""
        query, key, value = (self.linear(x, names[role]) for role in ("query", "key", "value"))
        heads = self.recipe.head_count(self.config, query.shape[-1])

        def attended(*parts: Array) -> Array:
            query, key, value = (p.reshape(len(p), heads, -1).swapaxes(0, 1) for p in parts)
            scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
            powers = np.exp(scores - scores.max(-1, keepdims=True))
            context = powers / powers.sum(-1, keepdims=True) @ value
            return np.asarray(context.swapaxes(0, 1).reshape(len(parts[0]), -1))

        by_text = zip(*(np.split(values, ends) for values in (query, key, value)), strict=True)
        context = np.concatenate([attended(*parts) for parts in by_text])
        self.remember(names["output"], context)
        return self.linear(context, names["output"])

    def norm(self, x: Array, module: str) -> Array:
        """Normalize the last axis and remember the result."""
        centred = x - x.mean(-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.epsilon)
        y = unit * self.whole(f"{module}.weight") + self.whole(f"{module}.bias")
        self.remember(module, y)
        return np.asarray(y)

    def remember(self, name: str, x: Array) -> None:
        """Keep what is found of a value (tokens, width)."""
        mean, covariance = x.mean(axis=0), None
        if self.moments is not None:
            centred = x - mean
            covariance = self.moments.keep(centred.T @ centred / len(x))
        self.readings[name] = Reading(x.min(axis=0), x.max(axis=0), mean, covariance)
