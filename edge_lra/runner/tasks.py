"""From a bundle's outputs to labels, vectors, entities and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.runner.text import Window

if TYPE_CHECKING:
    from tokenizers import Encoding


@dataclass(frozen=True)
class Classification:
    """The best label, its score, and the scores of all; a regression's score is its value."""

    label: str
    score: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Entity:
    """A stretch of a text, in characters, and the mean score of its tokens."""

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Answer:
    """A stretch of the context, in characters."""

    text: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class Row:
    """One text's outputs, without padding, and its encoding."""

    outputs: dict[str, np.ndarray]
    encoding: Encoding

    @classmethod
    def cut(cls, outputs: Mapping[str, np.ndarray], place: int, encoding: Encoding) -> Row:
        """Take one row of a batch; token outputs, (batch, sequence, width), lose their padding."""
        size = len(encoding.ids)
        return cls(
            {n: v[place, :size] if v.ndim == 3 else v[place] for n, v in outputs.items()},
            encoding,
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis, in float64."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    result: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return result


def classification(
    logits: np.ndarray, labels: Sequence[str] | None, problem_type: str | None
) -> Classification:
    """Score one row of logits, (labels,).

    As in transformers' losses, a single logit without a problem type is a regression.
    """
    names = _label_names(labels, logits.shape[-1])
    if problem_type == "regression" or (problem_type is None and len(names) == 1):
        values = logits.astype(np.float64)
    elif problem_type == "multi_label_classification":
        values = 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))  # the sigmoid, no overflow
    else:
        values = softmax(logits)
    best = int(values.argmax())
    scores = dict(zip(names, values.tolist(), strict=True))
    return Classification(names[best], float(values[best]), scores)


def _label_names(labels: Sequence[str] | None, count: int) -> list[str]:
    names = list(labels) if labels else [f"LABEL_{index}" for index in range(count)]
    if len(names) != count:
        raise EdgeError(f"labels: found {len(names)}, expected {count}, one an output")
    return names


def pool(hidden: np.ndarray, pooling: Mapping[str, Any]) -> np.ndarray:
    """Return one vector, (width,), from the hidden states of real tokens, (tokens, width)."""
    mode = pooling["mode"]
    if mode == "mean":
        vector = hidden.mean(axis=0, dtype=np.float64)
    elif mode == "cls":
        vector = hidden[0].astype(np.float64)
    elif mode == "max":
        vector = hidden.max(axis=0).astype(np.float64)
    else:
        raise EdgeError(f"pooling: found {mode!r}, expected mean, cls or max")
    if pooling.get("normalize"):
        vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
    result: np.ndarray = vector.astype(np.float32)
    return result


def entities(
    logits: np.ndarray,
    encoding: Encoding,
    text: str,
    labels: Sequence[str] | None,
    aggregation: str = "simple",
) -> list[Entity]:
    """Merge neighbouring tokens of one kind, (tokens, labels); B- begins a new entity."""
    if aggregation not in ("simple", "first"):
        raise EdgeError(f"aggregation: found {aggregation!r}, expected simple or first")
    names = _label_names(labels, logits.shape[-1])
    scores = softmax(logits)
    groups: list[_Group] = []
    last, word, best = "O", None, 0
    for place in range(len(encoding.ids)):
        if encoding.special_tokens_mask[place]:
            last, word = "O", None
            continue
        inner = aggregation == "first" and word is not None and encoding.word_ids[place] == word
        best = best if inner else int(scores[place].argmax())
        word = encoding.word_ids[place]
        begins, kind = _split(names[best])
        if kind != "O":
            if kind != last or (begins and not inner):
                groups.append(_Group(kind, place))
            groups[-1].last = place
            if not inner:  # with "first", a word's later tokens have no say
                groups[-1].scores.append(float(scores[place, best]))
        last = kind
    return [_entity(group, encoding, text) for group in groups]


@dataclass
class _Group:
    """The tokens of an entity to be, and the scores that count."""

    kind: str
    first: int
    last: int = 0
    scores: list[float] = field(default_factory=list)


def _split(name: str) -> tuple[bool, str]:
    return (name[0] == "B", name[2:]) if name[:2] in ("B-", "I-") else (False, name)


def _entity(group: _Group, encoding: Encoding, text: str) -> Entity:
    start, end = encoding.offsets[group.first][0], encoding.offsets[group.last][1]
    return Entity(group.kind, text[start:end], start, end, float(np.mean(group.scores)))


def best_span(
    outputs: Mapping[str, np.ndarray], window: Window, max_answer_tokens: int
) -> tuple[float, int, int]:
    """Return score, first and last character of a window's best span.

    The score is P(start) P(end) over the context and token 0, where models put "no answer".
    """
    if max_answer_tokens < 1:
        raise EdgeError(f"max_answer_tokens: found {max_answer_tokens}, expected at least 1")
    span = [0, *range(window.first, window.first + len(window.offsets))]
    start = softmax(outputs["start_logits"][0, span])[1:]
    end = softmax(outputs["end_logits"][0, span])[1:]
    pairs = np.triu(np.outer(start, end))  # the end is not before the start
    pairs = pairs - np.triu(pairs, k=max_answer_tokens)
    first, last = divmod(int(pairs.argmax()), len(end))
    return float(pairs[first, last]), window.offsets[first][0], window.offsets[last][1]
