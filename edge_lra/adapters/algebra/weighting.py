"""Second moments of what adapted modules read, to weigh an update's error by its outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.adapters.algebra.compress import Roots
from edge_lra.adapters.saved import Array
from edge_lra.errors import EdgeError
from edge_lra.quiet import quiet_transformers

FULL_WIDTH = 2048  # wider inputs get their variances alone: an eigendecomposition takes minutes
FLOOR = 1e-6  # of the largest eigenvalue
MAX_TOKENS = 128


def input_roots(
    model: Path,
    modules: Collection[str],
    texts: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> Roots:
    """Run texts through the base in float32; return roots of each module's input moments.

    Args:
        model: a checkpoint with a tokenizer.
        modules: names of linear modules, with or without the base's prefix.
        texts: what to run.
        progress: told how many of how many texts are done.

    Raises:
        EdgeError: the base has no such module or no tokenizer.
    """
    import torch
    import transformers

    quiet_transformers()
    base = transformers.AutoModel.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError):
        raise EdgeError(
            f"{model}: found no tokenizer, expected one to read the text; use a whole checkpoint"
        ) from None
    base.eval()
    moments: dict[str, Array] = {}
    for module in modules:
        _find(base, module, model).register_forward_pre_hook(_collect(moments, module))
    with torch.no_grad():
        for place, text in enumerate(texts):
            tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=MAX_TOKENS)
            base(**tokens)
            if progress:
                progress(place + 1, len(texts))
    return {module: roots(moment) for module, moment in moments.items()}


def _find(base: Any, module: str, model: Path) -> Any:
    for name, found in base.named_modules():
        if name and (module == name or module.endswith(f".{name}")) and hasattr(found, "weight"):
            return found
    raise EdgeError(
        f"{model}: found no module {module}, expected the adapter's base; check --model"
    )


def _collect(moments: dict[str, Array], module: str) -> Callable[[Any, Any], None]:
    def hook(_: Any, inputs: Any) -> None:
        rows = inputs[0].reshape(-1, inputs[0].shape[-1]).double().numpy()
        full = rows.shape[1] <= FULL_WIDTH
        moment = rows.T @ rows if full else (rows**2).sum(axis=0)
        moments[module] = moments.get(module, 0) + moment

    return hook


def roots(moment: Array) -> tuple[Array, Array]:
    """Return the root and the inverse root of second moments (in, in), or of variances (in,)."""
    if moment.ndim == 1:
        root = np.sqrt(_floored(moment))
        return root, 1 / root
    values, vectors = np.linalg.eigh(moment)
    values = np.sqrt(_floored(values))
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T


def _floored(power: Array) -> Array:
    """Return powers that can be divided by; those of an input that is always 0 are all 1."""
    highest = power.max()
    return np.asarray(np.maximum(power, FLOOR * highest if highest > 0 else 1.0))
