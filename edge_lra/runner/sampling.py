"""Choose the next token from logits, in the order and with the meaning of transformers.

Repetition penalty, temperature, top-k, top-p, min-p, then one draw. Every filter takes logits,
(vocabulary,), and returns new ones in which what it removed is -inf.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edge_lra.errors import EdgeError

OUT = -np.inf
LIKELY = 256  # tokens that top-p sorts first; it takes more where these do not reach p


def penalize(logits: np.ndarray, seen: Iterable[int], penalty: float) -> np.ndarray:
    """Divide the positive logits of tokens seen before by a penalty, multiply negative ones.

    Source: Keskar et al., CTRL, arXiv 1909.05858, section 4.1; negative logits as transformers.
    """
    places = np.fromiter(seen, np.int64)
    result = logits.copy()
    found = logits[places]
    result[places] = np.where(found < 0, found * penalty, found / penalty)
    return result


def top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """Keep the k largest logits and what equals the smallest of them.

    Source: Fan et al., Hierarchical Neural Story Generation, arXiv 1805.04833, section 5.4.
    """
    if k >= logits.size:
        return logits
    least = np.partition(logits, -k)[-k]
    return np.where(logits < least, OUT, logits)


def top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Keep the smallest set of most likely tokens whose probability reaches p.

    Source: Holtzman et al., The Curious Case of Neural Text Degeneration, arXiv 1904.09751,
    section 3.1.
    """
    probabilities = softmax(logits)
    count = LIKELY
    while True:  # a sort of a vocabulary of 49,152 takes 4.6 ms, a partition 0.3
        count = min(count, logits.size)
        likely = np.argpartition(probabilities, -count)[-count:]
        order = likely[np.argsort(-probabilities[likely])]
        reached = np.cumsum(probabilities[order])
        if reached[-1] >= p or count == logits.size:
            break
        count *= 8
    larger = reached - probabilities[order]  # what those before it sum to
    kept = order[larger < p]
    result = np.full_like(logits, OUT)
    result[kept] = logits[kept]
    return result


def min_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Keep tokens at least p times as likely as the most likely one.

    Source: Nguyen et al., Turning Up the Heat: Min-p Sampling, arXiv 2407.01082, section 3.
    """
    if p == 0:
        return logits
    return np.where(logits < logits.max() + math.log(p), OUT, logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, (vocabulary,), in float64; powers in float32 are 10 times faster."""
    powers = np.exp(logits - logits.max())
    result: np.ndarray = powers / powers.sum(dtype=np.float64)
    return result


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; temperature 0 takes the most likely one.

    Attributes:
        temperature: the logits are divided by it.
        top_k: how many tokens stay; None keeps all.
        top_p: what probability the tokens that stay must reach; 1 keeps all.
        min_p: the least probability that stays, over the largest; 0 keeps all.
        repetition_penalty: above 1 makes tokens of the prompt and the text less likely.
        seed: of the draws; None draws anew every time.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no text can be drawn with."""
        checks = (
            ("temperature", 0 <= self.temperature < math.inf, "0 or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top_p", 0 < self.top_p <= 1, "more than 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "0 to 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "more than 0"),
            ("seed", self.seed is None or self.seed >= 0, "0 or more"),
        )
        for name, fits, expected in checks:
            if not fits:
                raise EdgeError(f"{name}: found {getattr(self, name)}, expected {expected}")

    def candidates(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens that stay at a temperature above 0, and their probabilities."""
        scores = logits / np.float32(self.temperature)
        if self.top_k is not None:
            scores = top_k(scores, self.top_k)
        places = np.flatnonzero(scores > OUT)
        if self.top_p < 1:
            places = places[top_p(scores[places], self.top_p) > OUT]
        places = places[min_p(scores[places], self.min_p) > OUT]
        return places, softmax(scores[places])


class Sampler:
    """The tokens of one row: what it has seen, and its own random numbers."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int], row: int) -> None:
        """Start behind a prompt; a row's draws do not depend on the rows beside it."""
        self._sampling = sampling
        self._seen = set(prompt)
        seed = None if sampling.seed is None else [sampling.seed, row]
        self._random = np.random.default_rng(seed)

    def choose(self, logits: np.ndarray) -> int:
        """Return the next token for logits (vocabulary,)."""
        sampling = self._sampling
        if sampling.repetition_penalty != 1:
            logits = penalize(logits, self._seen, sampling.repetition_penalty)
        if sampling.temperature == 0:
            token = int(logits.argmax())
        else:
            places, probabilities = sampling.candidates(logits)
            reached = np.cumsum(probabilities)
            draw = self._random.random() * reached[-1]
            token = int(places[np.searchsorted(reached, draw, side="right")])
        self._seen.add(token)
        return token
