"""What compensation gains: errors of MiniLM's linears, and of its embeddings in int4 mixtures.

Weights are rounded as they would be stored and put back into the float model. The errors are those
on held-out reviews, with second moments from training ones.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import float_model
import numpy as np
import torch
import transformers
from fidelity import float_states, worst_cosines
from float_model import Tokens, as_tensors, tokenize
from reviews import held_out, training

from edge_lra.adapters.kinds.update import Factors
from edge_lra.adapters.lora_file import open_lora
from edge_lra.checkpoint import open_checkpoint
from edge_lra.quantize.blockwise import BLOCK, quantize_blocks
from edge_lra.quantize.compensate import (
    Coupling,
    compensate_blocks,
    compensate_pair_safe,
    couple,
    output_error,
    refit,
    restore,
)
from edge_lra.quantize.compensate.scales import SHARES
from edge_lra.quantize.pairsafe import Quantized, quantize_pair_safe, quantize_rows

Array = np.ndarray
HELD_OUT = 64
RANK = 8
OTHERS_MB = 0.26  # position rows in int8; biases and norms in float32


def shown_rows(found: Quantized) -> Array:
    return found.values * found.scale.astype(np.float64)[:, None]


def compensated_blocks(weight: Array, coupling: Coupling, bits: int) -> Array:
    return compensate_blocks(weight, coupling, bits).stored.weight(bits, weight.shape[1])


Rounding = Callable[[Array, Coupling], Array]
ROUNDINGS: dict[str, Rounding] = {
    "int8 pair-safe": lambda w, c: shown_rows(quantize_pair_safe(w)),
    "int8 pair-safe, compensated": lambda w, c: shown_rows(compensate_pair_safe(w, c).stored),
    "int8 block 32": lambda w, c: quantize_blocks(w, 8).weight(8, w.shape[1]),
    "int8 block 32, compensated": lambda w, c: compensated_blocks(w, c, 8),
    "int4 block 32": lambda w, c: quantize_blocks(w, 4).weight(4, w.shape[1]),
    "int4 block 32, compensated": lambda w, c: compensated_blocks(w, c, 4),
}
FULL, PLAIN, COMPENSATED = (
    "int8 block 32, compensated",
    "int4 block 32",
    "int4 block 32, compensated",
)


@dataclass(frozen=True)
class Mixture:
    """Which linears keep 8 bits beside compensated 4, and how embedding rows are stored.

    Attributes:
        rounding: of the other linears.
        full: parts of the names of linears in 8 bits.
        embedding_block: inputs that share a scale in 4 bits; None for int8 rows.
    """

    rounding: str
    full: tuple[str, ...] = ()
    embedding_block: int | None = None

    def choose(self, name: str) -> str:
        return FULL if any(part in name for part in self.full) else self.rounding

    def size_mb(self, linears: Mapping[str, Array], table: Array) -> float:
        """Return the size of all weights with their scales."""
        bits = {name: (8 if self.choose(name) == FULL else 4) + 32 / BLOCK for name in linears}
        weights = sum(bits[name] * weight.size for name, weight in linears.items())
        block = self.embedding_block
        rows = table.size * (4 + 32 / block) if block else 8 * table.size + 32 * len(table)
        return (weights + rows) / 8e6 + OTHERS_MB


SENSITIVE = ("value", "attention.output", "intermediate")
MIXTURES = (
    Mixture(PLAIN),
    Mixture(COMPENSATED),
    Mixture(COMPENSATED, embedding_block=128),
    Mixture(COMPENSATED, SENSITIVE, 128),
    Mixture(COMPENSATED, (*SENSITIVE, "3.output", "4.output", "5.output"), 128),
)


class Model:
    """The float encoder, its linears in float64, and what they read."""

    def __init__(self) -> None:
        float_model.quiet()
        path = open_checkpoint(float_model.MODEL).path
        self.encoder: Any = transformers.AutoModel.from_pretrained(path).eval()
        self.modules = {
            name: module
            for name, module in self.encoder.encoder.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        self.linears = {n: m.weight.detach().double().numpy() for n, m in self.modules.items()}
        self.table = self.encoder.embeddings.word_embeddings.weight.detach().double().numpy()

    def moments(self, texts: Sequence[Tokens]) -> dict[str, Array]:
        """Return the second moment of what each linear reads."""
        read: dict[str, list[Array]] = {name: [] for name in self.modules}

        def keep(name: str) -> Callable[[Any, Any], None]:
            return lambda _, inputs: read[name].append(inputs[0][0].numpy())

        hooks = [m.register_forward_pre_hook(keep(name)) for name, m in self.modules.items()]
        with torch.no_grad():
            for tokens in texts:
                self.encoder(**as_tensors(tokens))
        for hook in hooks:
            hook.remove()
        rows = {name: np.concatenate(parts).astype(np.float64) for name, parts in read.items()}
        return {name: x.T @ x / len(x) for name, x in rows.items()}

    def replace(self, mixture: Mixture, couplings: Mapping[str, Coupling]) -> None:
        """Put rounded weights into the encoder."""
        with torch.no_grad():
            for name, weight in self.linears.items():
                shown = ROUNDINGS[mixture.choose(name)](weight, couplings[name])
                self.modules[name].weight.copy_(torch.from_numpy(shown))
            rows = rounded_table(self.table, mixture.embedding_block)
            self.encoder.embeddings.word_embeddings.weight.copy_(torch.from_numpy(rows))

    def states(self, tokens: Tokens) -> Array:
        with torch.no_grad():
            return self.encoder(**as_tensors(tokens)).last_hidden_state.numpy()


def rounded_table(table: Array, block: int | None) -> Array:
    """Return embedding rows in 4 bits by blocks, or in int8."""
    if block is None:
        return shown_rows(quantize_rows(table))
    blocks = table.reshape(len(table), -1, block)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(2)[..., None], 2)
    best, found = np.full(largest.shape, np.inf), blocks
    for share in SHARES:
        step = -largest / 8 * share
        shown = np.clip(np.rint(blocks / step), -8, 7) * step
        lost = ((blocks - shown) ** 2).sum(2, keepdims=True)
        better = lost < best
        best, found = np.where(better, lost, best), np.where(better, shown, found)
    return found.reshape(table.shape)


def print_errors(
    model: Model, couplings: Mapping[str, Coupling], held: Mapping[str, Array]
) -> None:
    """Print the error of all linears and what rounding them takes, by rounding."""
    print("| weights | median error | largest | CPU-s |\n|---|---|---|---|")
    for title, rounding in ROUNDINGS.items():
        start = time.process_time()
        shown = {name: rounding(weight, couplings[name]) for name, weight in model.linears.items()}
        seconds = time.process_time() - start
        errors = [
            output_error(weight, shown[name], held[name]).ratio
            for name, weight in model.linears.items()
        ]
        print(f"| {title} | {np.median(errors):.4f} | {max(errors):.4f} | {seconds:.1f} |")


def print_factors(
    model: Model, couplings: Mapping[str, Coupling], held: Mapping[str, Array]
) -> None:
    """Print the median error of the linears that the sample adapter changes, by factors."""
    print(f"\n| base | adapter | refitted | adapter and rank {RANK} more |\n|---|---|---|---|")
    sites = open_lora(float_model.ADAPTER).sites
    for title, rounding in ROUNDINGS.items():
        errors = []
        for site, update in sites.items():
            name = site[site.index("layer.") :]
            weight, own = model.linears[name], update.merge(np.zeros_like(model.linears[name]))
            shown, moment = rounding(weight, couplings[name]), couplings[name].moment
            fitted = product(refit(weight, shown, update.factors(), moment).factors)
            restored = own + product(restore(weight, shown, moment, RANK).factors)
            errors.append(
                [
                    output_error(weight + own, shown + change, held[name]).ratio
                    for change in (own, fitted, restored)
                ]
            )
        print(f"| {title} | " + " | ".join(f"{e:.4f}" for e in np.median(errors, axis=0)) + " |")


def product(factors: Factors) -> Array:
    assert factors.up is not None and factors.down is not None
    return factors.up.astype(np.float64) @ factors.down


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=128, help="training reviews to calibrate on")
    arguments = parser.parse_args()
    model = Model()
    texts = tokenize([row.text for row in held_out()[:HELD_OUT]])
    expected, held = float_states(model.encoder, texts), model.moments(texts)
    calibration = model.moments(tokenize([r.text for r in training()[: arguments.texts]]))
    couplings = {name: couple(moment) for name, moment in calibration.items()}
    print_errors(model, couplings, held)
    print_factors(model, couplings, held)
    print("\n| other linears | in 8 bits | embedding | MB | min cosine |\n|---|---|---|---|---|")
    for mixture in MIXTURES:
        model.replace(mixture, couplings)
        worst = worst_cosines(model.states, texts, expected)["mean_pooled"]
        block = mixture.embedding_block
        rows = f"int4 block {block}" if block else "int8 rows"
        size = mixture.size_mb(model.linears, model.table)
        full = ", ".join(mixture.full) or "none"
        print(f"| {mixture.rounding} | {full} | {rows} | {size:.2f} | {worst:.4f} |")


if __name__ == "__main__":
    main()
