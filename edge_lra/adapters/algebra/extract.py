"""A LoRA from two full checkpoints, weight by weight; neither is ever in memory whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_lra.adapters.algebra.svd import Decomposition, decompose_large, squared_norm
from edge_lra.adapters.kinds import LowRank
from edge_lra.adapters.names import EMBEDDING_PARTS, LINEAR_HEADS, is_conv1d
from edge_lra.adapters.saved import Array
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.task import config_labels, peft_task_type

HELD_BYTES = 160 << 20  # a smaller difference is read once and held
CHUNK_BYTES = 16 << 20
HEADS = ("classifier", "score", "pre_classifier", "qa_outputs")  # kept whole, as PEFT keeps them


@dataclass(frozen=True)
class Choice:
    """How much of a difference is kept: a rank, or a share of the energy up to a rank."""

    rank: int
    energy: float | None = None


@dataclass(frozen=True)
class Extracted:
    """One weight's outcome.

    Attributes:
        rank: of the factors.
        kept_energy: share of the squared difference D that they hold.
        error: ||D - D_rank|| / ||D||, the relative output error of inputs in no direction.
        relative_change: ||tuned - base|| / ||base||.
    """

    module: str
    rank: int
    kept_energy: float
    error: float
    relative_change: float


@dataclass(frozen=True)
class Result:
    """What two checkpoints differ in.

    Attributes:
        sites: factors by module, as the tuned model names it.
        whole: tensors that differ and are no linear weight, by name.
        report: an entry a site.
        transposed: the weights are stored (in, out).
    """

    sites: dict[str, LowRank]
    whole: dict[str, Array]
    report: list[Extracted]
    transposed: bool


def extract(
    base: Checkpoint,
    tuned: Checkpoint,
    choice: Choice,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Return factors of every linear weight that differs, and whatever else does.

    Raises:
        EdgeError: the checkpoints are of different models, or equal.
    """
    names = match(base, tuned)
    transposed = is_conv1d(tuned.tensors, False)
    sites, whole, report = {}, {}, []
    for place, (name, known) in enumerate(sorted(names.items())):
        if known is None:
            whole[name] = tuned.rows(name).reshape(tuned.tensors[name].shape)
        elif is_linear(name, tuned):
            found = difference(base, tuned, known, name, choice)
            if found is not None:
                decomposition, entry = found
                module = name.removesuffix(".weight")
                update = decomposition.truncate(entry.rank)
                # Stored (in, out): the factors of the transpose trade places.
                turns = transposed and name.partition(".")[0] not in LINEAR_HEADS
                turned = LowRank(update.up.T, update.down.T, 1.0) if turns else update
                sites[module] = turned
                report.append(entry)
        elif differs(base, tuned, known, name):
            whole[name] = tuned.rows(name).reshape(tuned.tensors[name].shape)
        if progress:
            progress(place + 1, len(names))
    if not sites:
        raise EdgeError(
            f"{tuned.path}: found no linear weight that differs from {base.path}, expected a "
            "fine-tuned copy; are they the same model?"
        )
    return Result(sites, whole, report, transposed)


def settings(result: Result, base: str, tuned: Checkpoint) -> tuple[dict[str, Any], Result]:
    """Return the PEFT settings of an extracted adapter, and its modules saved whole.

    A module of which one tensor differs is saved with all its own.
    """
    modules = {name.rpartition(".")[0] for name in result.whole}
    apart = sorted(module for module in modules if module not in result.sites)
    whole = dict(result.whole)
    for name in tuned.tensors:
        if name.rpartition(".")[0] in apart and name not in whole:
            whole[name] = tuned.rows(name).reshape(tuned.tensors[name].shape)
    named = tuned.config.get("architectures") or [""]
    config = {
        "base_model_name_or_path": base,
        "fan_in_fan_out": result.transposed,
        "modules_to_save": apart or None,
        "task_type": peft_task_type(named[0]),
        "bias": "lora_only" if modules & result.sites.keys() else "none",
    }
    return config, replace(result, whole=whole)


def labels(config: Mapping[str, Any], tuned: Checkpoint) -> tuple[str, ...] | None:
    """Return the names that the tuned model gives the outputs of its head, where it has one.

    Args:
        config: the extracted adapter's settings.
        tuned: the tuned model.
    """
    given = tuned.config.get("id2label")
    if config["task_type"] not in ("SEQ_CLS", "TOKEN_CLS") or not given:
        return None
    return config_labels(tuned.config, len(given))


def match(base: Checkpoint, tuned: Checkpoint) -> dict[str, str | None]:
    """Return the base's name of every tuned tensor; None for one that the base lacks.

    One of the two may have a prefix that the other lacks: an encoder alone, or in a task model.

    Raises:
        EdgeError: few names agree, or a tensor has another shape.
    """

    def renamed(drop: str, add: str) -> dict[str, str | None]:
        found = {name: add + name.removeprefix(drop) for name in tuned.tensors}
        return {name: other if other in base.tensors else None for name, other in found.items()}

    drops = {name.partition(".")[0] + "." for name in tuned.tensors}
    adds = {name.partition(".")[0] + "." for name in base.tensors}
    pairs = [
        ("", ""),
        *((drop, "") for drop in sorted(drops)),
        *(("", add) for add in sorted(adds)),
    ]
    names = max(
        (renamed(*pair) for pair in pairs), key=lambda n: sum(v is not None for v in n.values())
    )
    known = [other for other in names.values() if other is not None]
    if len(known) < len(names) / 2:
        raise EdgeError(
            f"{tuned.path}: found {len(known)} of {len(names)} tensors in {base.path}, expected "
            "most of them; are they the same model?"
        )
    for name, other in names.items():
        if other is not None and base.tensors[other].shape != tuned.tensors[name].shape:
            raise EdgeError(
                f"{tuned.path}: {name}: found shape {tuned.tensors[name].shape}, expected "
                f"{base.tensors[other].shape} as in {base.path}; are they the same model?"
            )
    return names


def is_linear(name: str, checkpoint: Checkpoint) -> bool:
    """Say whether a tensor is a linear layer's weight rather than a table, a norm or a kernel."""
    flat = len(checkpoint.tensors[name].shape) == 2 and name.endswith(".weight")
    head = name.partition(".")[0] in HEADS
    return flat and not head and not any(part in name for part in EMBEDDING_PARTS)


def differs(base: Checkpoint, tuned: Checkpoint, known: str, name: str) -> bool:
    """Say whether two tensors differ anywhere."""
    return any(
        not np.array_equal(rows, base.rows(known, start, start + len(rows)))
        for start, rows in tuned.row_chunks(name, CHUNK_BYTES)
    )


def difference(
    base: Checkpoint, tuned: Checkpoint, known: str, name: str, choice: Choice
) -> tuple[Decomposition, Extracted] | None:
    """Decompose tuned - base; None where they are equal."""
    shape = tuned.tensors[name].shape
    norm = 0.0

    def stream() -> Iterator[tuple[int, Array]]:
        for start, rows in tuned.row_chunks(name, CHUNK_BYTES):
            yield start, rows - base.rows(known, start, start + len(rows))

    for _, rows in base.row_chunks(known, CHUNK_BYTES):
        norm += squared_norm(rows)
    chunks: Callable[[], Iterator[tuple[int, Array]]] = stream
    if 4 * math.prod(shape) <= HELD_BYTES:
        held = np.concatenate([rows for _, rows in stream()])
        if not held.any():
            return None

        def chunks() -> Iterator[tuple[int, Array]]:
            yield 0, held

    elif not differs(base, tuned, known, name):
        return None
    found = decompose_large(chunks, (shape[0], shape[1]), choice.rank)
    rank = len(found.values) if choice.energy is None else found.rank_for(choice.energy)
    entry = Extracted(
        name.removesuffix(".weight"),
        rank,
        found.kept_energy(rank),
        found.error(rank),
        math.sqrt(found.energy / norm) if norm else math.inf,
    )
    return found, entry
