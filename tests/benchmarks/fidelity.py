"""How near an engine's hidden states and answers are to the float model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import float_model
import numpy as np
import torch
from engines import Run, Tokens
from reviews import Review

from edge_lra.runner import Runner


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine along the last axis, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    result: np.ndarray = (a * b).sum(axis=-1) / norms
    return result


def float_states(encoder: Any, texts: Sequence[Tokens]) -> list[np.ndarray]:
    """Return the float hidden states (tokens, hidden) of each text."""
    with torch.no_grad():
        outputs = [encoder(**float_model.as_tensors(t)).last_hidden_state[0] for t in texts]
    return [output.numpy() for output in outputs]


def worst_cosines(
    run: Run, texts: Sequence[Tokens], expected: Sequence[np.ndarray]
) -> dict[str, float]:
    """Return the worst cosine over the texts, run one by one.

    Of the mean over tokens, of any single token, and of all tokens as one vector.
    """
    found = [run(tokens)[0] for tokens in texts]
    pairs = list(zip(found, expected, strict=True))
    return {
        "mean_pooled": min(float(cosine(f.mean(axis=0), e.mean(axis=0))) for f, e in pairs),
        "token": min(float(cosine(f, e).min()) for f, e in pairs),
        "flattened": min(float(cosine(f.ravel(), e.ravel())) for f, e in pairs),
    }


def float_logits(classifier: Any, texts: Sequence[Tokens]) -> np.ndarray:
    """Return the float logits (texts, labels)."""
    with torch.no_grad():
        rows = [classifier(**float_model.as_tensors(tokens)).logits[0] for tokens in texts]
    return torch.stack(rows).numpy()


def bundle_logits(bundle: Path, texts: Sequence[Tokens]) -> np.ndarray:
    """Return a bundle's logits (texts, labels), one text a run."""
    runner = Runner.load(bundle, threads=1)
    return np.concatenate([runner.run(tokens)["logits"] for tokens in texts])


def accuracy_percent(logits: np.ndarray, rows: Sequence[Review]) -> float:
    """Return how many rows are answered rightly."""
    return float(100 * np.mean(logits.argmax(axis=1) == [row.positive for row in rows]))
