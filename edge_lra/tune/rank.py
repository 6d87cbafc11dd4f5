"""Choose a rank: by cross-validation, and from the spectrum of what was trained."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from edge_lra.adapters.algebra.svd import Decomposition, decompose
from edge_lra.adapters.kinds import LowRank
from edge_lra.errors import EdgeError
from edge_lra.tune.data import Data, fold, split
from edge_lra.tune.fit import Step, Trainer, evaluate
from edge_lra.tune.module import LowRankAdapter
from edge_lra.tune.subject import KINDS, Subject, make_subject
from edge_lra.tune.tune import TuneRequest, open_data

RANKS = (1, 2, 4, 8, 16)
METHODS = ("truncate", "train")
ENERGY = 0.95


@dataclass(frozen=True)
class Candidate:
    """One rank's accuracy over the folds.

    Attributes:
        mean: of the held-out accuracies.
        standard_error: their deviation / sqrt(folds).
        accuracies: one a fold.
    """

    rank: int
    mean: float
    standard_error: float
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Choice:
    """What cross-validation came to.

    Attributes:
        chosen: the smallest rank within one standard error of the best (Breiman et al. 1984,
            section 3.4.3).
        best: the rank of the best mean.
        spectrum: the rank that keeps 95 % of a site's energy: median and largest over all sites
            and folds. Cheaper, for it needs one training.
        method: "truncate" or "train".
    """

    candidates: list[Candidate]
    chosen: int
    best: int
    spectrum: tuple[int, int]
    method: str


def choose_rank(
    request: TuneRequest,
    ranks: Sequence[int] = RANKS,
    folds: int = 5,
    method: str = "truncate",
    step: Step | None = None,
) -> Choice:
    """Measure candidate ranks by cross-validation over the training rows.

    Args:
        request: what is trained; its rank and output folder are not used. Its share for validation
            is taken from the rows that a fold trains on.
        ranks: candidates.
        folds: parts that are held out in turn.
        method: "truncate" trains once a fold at the largest rank and truncates every site's
            product by SVD; "train" trains at each rank.
        step: told steps done, steps in all, running loss and accuracy.

    Raises:
        EdgeError: the data has too few rows, or the adapter has an activation to truncate.
    """
    ranks = sorted(set(ranks))
    if method == "truncate" and _nonlinear(request):
        raise EdgeError(
            "--method: found truncate with an activation between the layers, expected train; "
            "their product is no low-rank matrix"
        )
    data, pad_id = open_data(request)
    parts = fold(data.examples, folds, request.settings.seed)
    runs = len(parts) * (len(ranks) if method == "train" else 1)
    found: dict[int, list[float]] = {rank: [] for rank in ranks}
    energies: list[int] = []
    done = 0
    for places, held in parts:
        for rank in ranks if method == "train" else ranks[-1:]:
            trainer = _train(request, rank, data, pad_id, places, _part(step, done, runs))
            done += 1
            if method == "train":
                found[rank].append(_accuracy(trainer, held))
        subject = trainer.subject  # of the largest rank
        spectra = {} if _nonlinear(request) else decompositions(subject)
        energies += [spectrum.rank_for(ENERGY) for spectrum in spectra.values()]
        if method == "truncate":
            for rank in ranks:
                with truncated(subject, spectra, rank):
                    found[rank].append(_accuracy(trainer, held))
    candidates = [_candidate(rank, found[rank]) for rank in ranks]
    chosen, best = one_standard_error(candidates)
    spectrum = (round(statistics.median(energies)), max(energies)) if energies else (0, 0)
    return Choice(candidates, chosen, best, spectrum, method)


def _nonlinear(request: TuneRequest) -> bool:
    form = KINDS[request.form.kind]
    activation = request.form.activation or (form[1] if form else "linear")
    return activation != "linear"


def _part(step: Step | None, run: int, runs: int) -> Step | None:
    """Return a callback that counts one training as a part of all."""
    if step is None:
        return None

    def part(done: int, total: int, loss: float, accuracy: float) -> None:
        step(run * total + done, runs * total, loss, accuracy)

    return part


def _train(
    request: TuneRequest,
    rank: int,
    data: Data,
    pad_id: int,
    places: Sequence[int],
    step: Step | None,
) -> Trainer:
    """Train at a rank on some rows; of these a share decides which epoch is kept.

    The rows that are held out decide nothing: they would flatter what they then measure.
    """
    seed = request.settings.seed
    rows = split(data.examples, request.validation, seed, places)
    form = replace(request.form, rank=rank)
    subject = make_subject(request.model, request.task, form, data.labels, seed)
    trainer = Trainer(subject, data.examples, *rows, request.settings, pad_id)
    trainer.fit(step)
    return trainer


def _accuracy(trainer: Trainer, places: Sequence[int]) -> float:
    model, examples, device = trainer.model, trainer.examples, trainer.device
    return evaluate(model, examples, places, trainer.pad_id, device).accuracy


def _candidate(rank: int, accuracies: Sequence[float]) -> Candidate:
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    error = deviation / math.sqrt(len(accuracies))
    return Candidate(rank, statistics.fmean(accuracies), error, tuple(accuracies))


def one_standard_error(candidates: Sequence[Candidate]) -> tuple[int, int]:
    """Return the smallest rank within one standard error of the best, and the best."""
    best = max(candidates, key=lambda c: (c.mean, -c.rank))
    least = best.mean - best.standard_error
    return min(c.rank for c in candidates if c.mean >= least), best.rank


def _factors(subject: Subject) -> Iterator[tuple[str, LowRank, Callable[[LowRank], None]]]:
    """Yield each site's product as factors, and how to put others in their place."""
    for name, module in subject.model.named_modules():
        if isinstance(module, LowRankAdapter):
            yield name, *_of_layers(module)
        elif hasattr(module, "lora_A") and "default" in module.lora_A:
            yield name, *_of_lora(module)


def _of_lora(module: Any) -> tuple[LowRank, Callable[[LowRank], None]]:
    down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
    scale = float(module.scaling["default"])

    def put(update: LowRank) -> None:
        _fill(down, update.down)
        _fill(up, update.up / scale)

    return LowRank(_array(down), _array(up), scale), put


def _of_layers(module: LowRankAdapter) -> tuple[LowRank, Callable[[LowRank], None]]:
    """Return U D; what the first bias adds, U c, moves to the second, for U changes."""
    down, up = module.adapter_down, module.adapter_up

    def put(update: LowRank) -> None:
        with torch.no_grad():
            up.bias.add_(up.weight @ down.bias)
            down.bias.zero_()
        _fill(down.weight, update.down)
        _fill(up.weight, update.up)

    return LowRank(_array(down.weight), _array(up.weight), 1.0), put


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().cpu().numpy().copy()


def _fill(tensor: torch.Tensor, values: np.ndarray[Any, Any]) -> None:
    """Copy factors of a lower rank; the rest becomes 0."""
    with torch.no_grad():
        tensor.zero_()
        rows, columns = values.shape
        tensor[:rows, :columns].copy_(torch.from_numpy(np.ascontiguousarray(values)))


def decompositions(subject: Subject) -> dict[str, Decomposition]:
    """Return the decomposition of every site's trained product."""
    return {name: decompose(factors) for name, factors, _ in _factors(subject)}


@contextmanager
def truncated(subject: Subject, spectra: Mapping[str, Decomposition], rank: int) -> Iterator[None]:
    """Give every site the best factors of a rank for the length of a block."""
    kept = {name: p.detach().clone() for name, p in subject.trainable.items()}
    for name, _, put in _factors(subject):
        put(spectra[name].truncate(rank))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in subject.trainable.items():
                parameter.copy_(kept[name])
