"""What is trained: a frozen base with an adapter of some kind, and its head."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_lra.errors import EdgeError
from edge_lra.places import resolve_model
from edge_lra.quiet import quiet_transformers
from edge_lra.tune.files import is_layers, load_adapter, save_adapter
from edge_lra.tune.module import ALL_LINEAR, SITES, find_sites, insert

TASKS = {
    "sequence-classification": ("AutoModelForSequenceClassification", "SEQ_CLS"),
    "causal-lm": ("AutoModelForCausalLM", "CAUSAL_LM"),
}
# What a user asks for: the form of the two layers and their activation; LoRA is PEFT's.
KINDS: dict[str, tuple[str, str] | None] = {
    "lora": None,
    "serial": ("serial-residual", "linear"),
    "parallel": ("parallel", "linear"),
    "bottleneck": ("serial-residual", "gelu"),
}
HEADS = ("classifier", "score")


@dataclass(frozen=True)
class Form:
    """The adapter that is asked for.

    Attributes:
        kind: a key of `KINDS`.
        rank: of its factors or between its layers.
        sites: ends of modules' names, "attention-output", "ffn-output", "both" or "all-linear";
            empty for the kind's own default.
        activation: between two layers; None for the kind's own.
        alpha: of LoRA; None for twice the rank.
        dropout: of LoRA.
    """

    kind: str = "lora"
    rank: int = 8
    sites: tuple[str, ...] = ()
    activation: str | None = None
    alpha: float | None = None
    dropout: float = 0.05


@dataclass
class Subject:
    """A model with its adapter, ready to be trained.

    Attributes:
        model: the task's model.
        base: how the user named its checkpoint.
        task: a key of `TASKS`.
        form: the adapter.
        heads: modules trained whole.
        labels: names of the classes.
    """

    model: Any
    base: str
    task: str
    form: Form
    heads: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def save(self, folder: Path) -> None:
        """Write the adapter into an existing folder, so that PEFT (or we) load it.

        Raises:
            EdgeError: what was written does not load to the same values.
        """
        task_type = TASKS[self.task][1]
        if KINDS[self.form.kind] is None:
            self.model.peft_config["default"].base_model_name_or_path = self.base
            self.model.save_pretrained(folder, save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        else:
            named = {"base_model_name_or_path": self.base, "task_type": task_type}
            save_adapter(self.model, folder, self.heads, **named)
        self._check(folder)

    def _check(self, folder: Path) -> None:
        """Load what was written anew and compare an output."""
        fresh, _ = load_base(self.base, self.task, self.labels)
        fresh.config.pad_token_id = self.model.config.pad_token_id
        ids = torch.arange(2, 8).reshape(1, 6)
        if is_layers(folder):
            load_adapter(fresh, folder)
        else:
            fresh = load_peft(fresh, folder)
        self.model.eval()
        with torch.no_grad():
            found = fresh.eval()(input_ids=ids).logits
            wanted = self.model.cpu()(input_ids=ids).logits
        if not torch.allclose(found, wanted, atol=1e-5, rtol=1e-4):
            raise EdgeError(
                f"{folder}: found {float((found - wanted).abs().max()):.2g} between the trained "
                "model and what was saved, expected none; please report this"
            )


def load_peft(model: nn.Module, folder: Path) -> Any:
    """Return a model with an adapter that PEFT loads; every tensor must find its place."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return PeftModel.from_pretrained(model, str(folder))


def load_base(base: str, task: str, labels: Sequence[str]) -> tuple[Any, set[str]]:
    """Return the task's model in float32, and its tensors that the checkpoint does not have."""
    import transformers

    quiet_transformers()
    loader = getattr(transformers, TASKS[task][0])
    names = dict(enumerate(labels))
    options: dict[str, Any] = {}
    if labels:
        options = {"num_labels": len(labels), "id2label": names}
        options["label2id"] = {label: place for place, label in names.items()}
    try:
        model, info = loader.from_pretrained(
            resolve_model(base),
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["an unreadable model"])[0]
        raise EdgeError(f"{base}: found {reason}, expected a model for {task}") from None
    return model, set(info["missing_keys"])


def find_heads(model: Any, missing: set[str], base: str, classifies: bool) -> tuple[str, ...]:
    """Return the modules that are trained whole: the head, and what the checkpoint lacks beside it.

    Raises:
        EdgeError: the checkpoint lacks a part of the encoder, which would stay random.
    """
    known = {name for name, _ in model.named_children()} - {model.base_model_prefix}
    found = {name.partition(".")[0] for name in missing}
    if odd := sorted(found - known if classifies else found):
        name = next(name for name in sorted(missing) if name.startswith(odd[0]))
        raise EdgeError(
            f"{base}: found no {name}, expected it in the checkpoint, for it would stay random; "
            "use a base that has it"
        )
    own = {name for name in known if name in HEADS} if classifies else set()
    return tuple(sorted(found | own))


def make_subject(base: str, task: str, form: Form, labels: Sequence[str], seed: int) -> Subject:
    """Load the base, put the adapter in, freeze the rest.

    Raises:
        EdgeError: the base cannot be loaded, or a site matches nothing.
    """
    torch.manual_seed(seed)
    model, missing = load_base(base, task, labels)
    heads = find_heads(model, missing, base, bool(labels))
    layers = KINDS[form.kind]
    if layers is None:
        if form.activation is not None:
            raise EdgeError(
                f"--activation: found {form.activation} with lora, expected none; LoRA has no "
                "activation, use --kind bottleneck"
            )
        return Subject(_with_lora(model, task, form, heads), base, task, form, heads, tuple(labels))
    kind, activation = layers
    form = replace(form, activation=form.activation or activation)
    insert(model, form.sites or "both", kind, form.rank, str(form.activation), train=heads)
    return Subject(model, base, task, form, heads, tuple(labels))


def _with_lora(model: Any, task: str, form: Form, heads: Sequence[str]) -> Any:
    from peft import LoraConfig, get_peft_model

    roles = [site for site in form.sites if site in (*SITES, ALL_LINEAR)]
    targets = [site for site in form.sites if site not in roles]
    # PEFT passes over a name that matches nothing beside one that does.
    known = [f".{name}" for name, _ in model.named_modules()]
    if missing := [end for end in targets if not any(n.endswith(f".{end}") for n in known)]:
        raise EdgeError(
            f"sites: found {', '.join(missing)}, which no module's name ends in, expected the ends "
            "of linears' names such as query; correct --sites"
        )
    if roles:
        targets += find_sites(model, roles, heads)
    config = LoraConfig(
        task_type=TASKS[task][1],
        r=form.rank,
        lora_alpha=form.alpha or 2 * form.rank,
        lora_dropout=form.dropout,
        target_modules=targets or None,
        modules_to_save=list(heads) or None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            reason = str(error).partition(". ")[0]
            raise EdgeError(
                f"sites: found {', '.join(form.sites) or 'none'}, expected the ends of linears' "
                f"names; PEFT says: {reason}"
            ) from None
