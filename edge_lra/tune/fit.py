"""Train an adapter: AdamW, warm-up and decay, early stopping, checkpoints to resume from."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from edge_lra.errors import EdgeError
from edge_lra.tune.data import Example, batches, in_batches
from edge_lra.tune.subject import Subject

Step = Callable[[int, int, float, float], None]  # done, total, loss, accuracy
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Settings:
    """How it is trained.

    Attributes:
        epochs: at most.
        batch_size: rows a step.
        learning_rate: of the first step, were it neither warmed up nor lowered.
        weight_decay: of AdamW (Loshchilov and Hutter 2019).
        warmup: share of all steps in which the rate rises; all the while it falls to 0 in a line,
            so that its peak is (1 - warmup) of `learning_rate`.
        patience: epochs without a better validation after which it stops.
        seed: of the head, the order of rows and dropout.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.06
    patience: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Score:
    """A measurement: mean loss, and the share of right answers (of next tokens, for text)."""

    loss: float
    accuracy: float

    def better_than(self, other: Score | None, by_loss: bool = False) -> bool:
        """Compare by accuracy, then by loss; text is compared by its loss alone."""
        if other is None:
            return True
        if by_loss:
            return self.loss < other.loss
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass(frozen=True)
class Epoch:
    """One epoch's scores."""

    number: int
    train: Score
    validation: Score


@dataclass
class Trainer:
    """Trains one subject on some rows and validates it on others."""

    subject: Subject
    examples: Sequence[Example]
    train: Sequence[int]
    validation: Sequence[int]
    settings: Settings
    pad_id: int
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        """Prepare the optimizer; nothing has been trained."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = self.subject.model.to(self.device)
        if self.model.config.pad_token_id is None:
            # A decoder's classifier reads the last token that is none of padding.
            self.model.config.pad_token_id = self.pad_id
        own = list(self.subject.trainable.values())
        self.optimizer = torch.optim.AdamW(
            own, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        self.per_epoch = len(batches(self.examples, self.train, self.settings.batch_size, 0))
        steps = self.per_epoch * self.settings.epochs
        rise = max(1.0, self.settings.warmup * steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / rise) * max(0.0, 1 - step / steps)
        )
        self.by_loss = not self.subject.labels
        self.history: list[Epoch] = []
        self.best: dict[str, torch.Tensor] = {}
        self.best_score: Score | None = None

    def fit(self, step: Step | None = None) -> list[Epoch]:
        """Train to the end, or until validation no longer gets better; keep the best epoch.

        Args:
            step: told steps done, steps in all, and the running loss and accuracy.
        """
        while len(self.history) < self.settings.epochs and not self._stalled():
            self._epoch(step)
            self._save()
        state = self.subject.trainable
        with torch.no_grad():
            for name, values in self.best.items():
                state[name].copy_(values)
        self.model.eval()
        return self.history

    def best_epoch(self) -> Epoch:
        """Return the epoch whose values are kept."""
        best = self.history[0]
        for epoch in self.history:
            if epoch.validation.better_than(best.validation, self.by_loss):
                best = epoch
        return best

    def _stalled(self) -> bool:
        """Say whether the last `patience` epochs brought nothing."""
        best, since = None, 0
        for epoch in self.history:
            since += 1
            if epoch.validation.better_than(best, self.by_loss):
                best, since = epoch.validation, 0
        return since >= self.settings.patience

    def _epoch(self, step: Step | None) -> None:
        number = len(self.history)
        # Seeded by epoch, so that a resumed run drops and orders as an uninterrupted one.
        seed = self.settings.seed * 1009 + number
        torch.manual_seed(seed)
        self.model.train()
        groups = batches(self.examples, self.train, self.settings.batch_size, seed)
        tally = Tally()
        for place, batch in enumerate(in_batches(self.examples, groups, self.pad_id, self.device)):
            output = self.model(**batch)
            self.optimizer.zero_grad()
            output.loss.backward()
            self.optimizer.step()
            self.schedule.step()
            score = tally.add(output, batch["labels"])
            loss = float(output.loss.detach())
            if not math.isfinite(loss):
                raise EdgeError(
                    f"training: found loss {loss} in epoch {number + 1}, expected a number; "
                    "lower --learning-rate"
                )
            if step:
                done = number * self.per_epoch + place + 1
                step(done, self.settings.epochs * self.per_epoch, score.loss, score.accuracy)
        found = evaluate(self.model, self.examples, self.validation, self.pad_id, self.device)
        self.history.append(Epoch(number + 1, tally.score(), found))
        if found.better_than(self.best_score, self.by_loss):
            self.best_score = found
            self.best = {n: p.detach().clone() for n, p in self.subject.trainable.items()}

    def _run(self) -> dict[str, Any]:
        """Return what makes a run another one."""
        texts = hashlib.sha256(repr([(e.ids, e.label) for e in self.examples]).encode())
        form = asdict(self.subject.form)
        return {
            "base": [self.subject.base, self.subject.task],
            "settings": asdict(self.settings),
            "form": {**form, "sites": list(form["sites"])},
            "data": [texts.hexdigest(), list(self.subject.labels)],
            "rows": [list(self.train), list(self.validation)],
        }

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        state = self._run() | {
            "current": {n: p.detach() for n, p in self.subject.trainable.items()},
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
        }
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        fresh = self.checkpoint / f"{CHECKPOINT}.tmp"
        torch.save(state, fresh)
        os.replace(fresh, self.checkpoint / CHECKPOINT)

    def resume(self) -> int:
        """Go on from a checkpoint of the same run; return the epochs it has done.

        Raises:
            EdgeError: the checkpoint is damaged, or of another base, other settings or data.
        """
        file = (self.checkpoint or Path()) / CHECKPOINT
        if not file.is_file():
            return 0
        try:
            state: Any = torch.load(file, weights_only=True, map_location=self.device)
            for key, value in self._run().items():
                if state[key] != value:
                    raise EdgeError(
                        f"{file}: found other {key} than this run's, expected the same command; "
                        "delete the folder to start anew"
                    )
            with torch.no_grad():
                for name, parameter in self.subject.trainable.items():
                    parameter.copy_(state["current"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
        except (RuntimeError, KeyError, EOFError, ValueError, UnpicklingError) as error:
            raise EdgeError(
                f"{file}: found a damaged checkpoint ({type(error).__name__}), expected one of "
                "this run; delete the folder to start anew"
            ) from None
        self.best = state["best"]
        self.history = [
            Epoch(e["number"], Score(**e["train"]), Score(**e["validation"]))
            for e in state["history"]
        ]
        for epoch in self.history:
            if epoch.validation.better_than(self.best_score, self.by_loss):
                self.best_score = epoch.validation
        return len(self.history)


class Tally:
    """Sums of losses and right answers over batches."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.loss = 0.0
        self.right = self.count = 0

    def add(self, output: Any, labels: torch.Tensor) -> Score:
        """Take in a batch's output; return the score so far."""
        answers = output.logits.detach().argmax(-1)
        if labels.dim() == 2:  # the next token at each position
            answers, labels = answers[:, :-1], labels[:, 1:]
        known = labels >= 0
        count = int(known.sum())
        self.loss += float(output.loss.detach()) * count
        self.right += int((answers == labels)[known].sum())
        self.count += count
        return self.score()

    def score(self) -> Score:
        """Return means over what was counted."""
        count = max(1, self.count)
        return Score(self.loss / count, self.right / count)


def evaluate(
    model: Any,
    examples: Sequence[Example],
    places: Sequence[int],
    pad_id: int,
    device: torch.device,
) -> Score:
    """Return loss and accuracy of a model on some rows."""
    model.eval()
    tally = Tally()
    groups = batches(examples, places, 64, None)
    with torch.no_grad():
        for batch in in_batches(examples, groups, pad_id, device):
            tally.add(model(**batch), batch["labels"])
    return tally.score()
