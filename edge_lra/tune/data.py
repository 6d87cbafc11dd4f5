"""Training text: read, checked, split, turned into batches; the same for the same seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge_lra.errors import EdgeError
from edge_lra.texts import Row, read_rows

BUCKET = 16  # batches whose rows are sorted by length together
IGNORED = -100  # a label that torch's cross entropy leaves out


@dataclass(frozen=True)
class Example:
    """A tokenized text; `label` is None where the text itself is what is learned."""

    ids: tuple[int, ...]
    label: int | None


@dataclass(frozen=True)
class Data:
    """A file's rows.

    Attributes:
        examples: one a row.
        labels: names of the classes, sorted; empty for language modelling.
    """

    examples: list[Example]
    labels: tuple[str, ...]


def read_data(path: Path, tokenizer: Any, task: str, max_length: int) -> Data:
    """Read and tokenize a training file.

    Args:
        path: .txt, .tsv, .csv or .jsonl.
        tokenizer: of transformers.
        task: "sequence-classification", which needs labels, or "causal-lm".
        max_length: tokens a row is cut to.

    Raises:
        EdgeError: a row has no text or no label, or all have one label.
    """
    rows = read_rows(path)
    labels = check_labels(path, rows) if task == "sequence-classification" else ()
    places = {label: place for place, label in enumerate(labels)}
    coded = tokenizer([row.text for row in rows], truncation=True, max_length=max_length)
    examples = [
        Example(tuple(ids), places[row.label or ""] if labels else None)
        for ids, row in zip(coded["input_ids"], rows, strict=True)
    ]
    return Data(examples, labels)


def check_labels(path: Path, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the sorted labels of a file.

    Raises:
        EdgeError: a row has none, or there are fewer than two.
    """
    for number, row in enumerate(rows, 1):
        if not row.label:
            raise EdgeError(
                f"{path}: row {number}: found no label, expected one in each for "
                "sequence-classification; name the column 'label'"
            )
    found = {row.label or "" for row in rows}
    labels = sorted(found, key=int) if all(map(str.isdecimal, found)) else sorted(found)
    if len(labels) < 2:
        raise EdgeError(
            f"{path}: found one label, {labels[0]!r}, on all {len(rows)} rows, expected two or "
            "more; there is nothing to tell apart"
        )
    return tuple(labels)


def split(
    examples: Sequence[Example], share: float, seed: int, places: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """Return the places of training and validation rows; every class in the same share.

    A class of one row is trained on.

    Args:
        examples: all rows.
        share: of the rows for validation.
        seed: of the choice.
        places: the rows to split; None for all.

    Raises:
        EdgeError: there are too few rows to keep some aside.
    """
    places = range(len(examples)) if places is None else places
    groups: dict[int | None, list[int]] = defaultdict(list)
    for index in torch.randperm(len(places), generator=_generator(seed)).tolist():
        groups[examples[places[index]].label].append(places[index])
    train, kept = [], []
    for group in groups.values():
        count = min(max(1, round(share * len(group))), len(group) - 1)
        kept += group[:count]
        train += group[count:]
    if not kept:
        raise EdgeError(
            f"--data: found {len(places)} rows, expected two of a class or more, to train on and "
            "to validate with; give more"
        )
    return sorted(train), sorted(kept)


def fold(examples: Sequence[Example], count: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Return the training and held-out places of each fold; every class spread evenly.

    Raises:
        EdgeError: a class has fewer rows than there are folds.
    """
    groups: dict[int | None, list[int]] = defaultdict(list)
    for place in torch.randperm(len(examples), generator=_generator(seed)).tolist():
        groups[examples[place].label].append(place)
    smallest = min(map(len, groups.values()))
    if smallest < count:
        raise EdgeError(
            f"--data: found {smallest} rows of a class, expected at least {count}, one a fold; "
            "give more rows or fewer --folds"
        )
    held = [sorted(p for group in groups.values() for p in group[i::count]) for i in range(count)]
    return [(sorted(set(range(len(examples))) - set(part)), part) for part in held]


def batches(
    examples: Sequence[Example], places: Sequence[int], size: int, seed: int | None
) -> list[list[int]]:
    """Return batches of like length: in random order for a seed, by length without one."""
    if seed is None:
        order = sorted(places, key=lambda p: len(examples[p].ids))
        return [order[i : i + size] for i in range(0, len(order), size)]
    generator = _generator(seed)
    order = [places[i] for i in torch.randperm(len(places), generator=generator).tolist()]
    wide = BUCKET * size
    found = []
    for start in range(0, len(order), wide):
        part = sorted(order[start : start + wide], key=lambda p: len(examples[p].ids))
        found += [part[i : i + size] for i in range(0, len(part), size)]
    return [found[i] for i in torch.randperm(len(found), generator=generator).tolist()]


def collate(examples: Sequence[Example], pad_id: int, device: torch.device) -> dict[str, Any]:
    """Return a batch's tensors, padded to its longest row; labels are shifted by the model."""
    longest = max(len(example.ids) for example in examples)
    shape = (len(examples), longest)
    ids, mask = torch.full(shape, pad_id), torch.zeros(shape, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        mask[row, : len(example.ids)] = 1
    if examples[0].label is None:
        labels = torch.where(mask.bool(), ids, IGNORED)
    else:
        labels = torch.tensor([example.label for example in examples])
    tensors = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def in_batches(
    examples: Sequence[Example], groups: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Yield each group's tensors."""
    for group in groups:
        yield collate([examples[place] for place in group], pad_id, device)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
