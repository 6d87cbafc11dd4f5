"""A Hugging Face checkpoint without a recipe: its class, on the meta device, and its tensors."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.graph.trace import Subject
from edge_lra.oracle import AUTO_CLASSES
from edge_lra.quiet import quiet_transformers
from edge_lra.task import likely_task, token_limit
from edge_lra.traced.model import IMAGES, OUTPUTS, TracedModel
from edge_lra.traced.names import match_names
from edge_lra.traced.tensors import RenamedTensors, StateTensors

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
CLASSES = {**AUTO_CLASSES, IMAGES: "AutoModelForImageClassification"}
GENERATORS = ("ForCausalLM", "LMHeadModel")
TOKENS = (2, 16)  # of the example: its sizes are in no graph
TOKEN_AXES = {0: "batch", 1: "sequence"}
LOAD: dict[str, Any] = {"local_files_only": True, "attn_implementation": "eager"}


@dataclass(frozen=True)
class Architecture:
    """A class of transformers and the settings of one checkpoint.

    Attributes:
        auto: the Auto class or class that builds it.
        config: transformers' settings object.
    """

    auto: Any
    config: Any
    folder: Path

    def on_meta(self) -> torch.nn.Module:
        """Return the module without values. Eager attention: rules of the graph know its form."""
        import torch

        options = {"attn_implementation": "eager", "dtype": torch.float32}
        with torch.device("meta"):
            module: torch.nn.Module = self.auto.from_config(self.config, **options)
        return module.eval()

    def loaded(self) -> torch.nn.Module:
        """Return the module with the checkpoint's float32 weights, as transformers reads them."""
        import torch

        module: torch.nn.Module = self.auto.from_pretrained(
            self.folder,
            config=self.config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # a head that an adapter brings may have other labels
            **LOAD,
        )
        return module.eval()

    def buffers(self) -> dict[str, torch.Tensor]:
        """Return the buffers that the module's constructor computes, with real values."""
        from accelerate import init_empty_weights

        with init_empty_weights(include_buffers=False):
            module = self.auto.from_config(self.config, attn_implementation="eager")
        return {name: value for name, value in module.named_buffers() if not value.is_meta}


def open_architecture(
    checkpoint: Checkpoint, task: str | None, task_types: list[str | None], labels: int | None
) -> TracedModel:
    """Build a checkpoint's class without its weights.

    Args:
        checkpoint: a folder whose `model_type` has no recipe.
        task: what it is exported for; None for what the adapters or the checkpoint are made for.
        task_types: the adapters'.
        labels: outputs of the head where an adapter brings another; None for the checkpoint's.

    Raises:
        EdgeError: transformers does not know the architecture, or not for this task.
    """
    quiet_transformers()
    config = _read_config(checkpoint)
    chosen = _choose_task(checkpoint, task, task_types)
    if labels is not None:
        config.num_labels = labels
    architecture = Architecture(_auto_class(checkpoint, config, chosen), config, checkpoint.path)
    module = architecture.on_meta()
    subject = _subject(module, architecture, chosen, checkpoint)
    names, rearranged = match_names(module, checkpoint)
    if rearranged:
        logger.warning(
            "%s: %s: transformers rearranges it while loading; the weights are read whole",
            *(checkpoint.path, rearranged),
        )
        state = architecture.loaded().state_dict(keep_vars=True)
        tensors: Checkpoint = StateTensors(checkpoint.path, checkpoint.config, state)
    else:
        tensors = RenamedTensors(checkpoint, names)
    tokens = "input_ids" in subject.examples
    return TracedModel(
        family=str(checkpoint.config["model_type"]),
        task=chosen,
        subject=subject,
        tensors=tensors,
        load=architecture.loaded,
        heads=_heads(module),
        max_length=_max_length(module, checkpoint) if tokens else None,
        vocabulary_size=_vocabulary(module) if tokens else None,
    )


def _read_config(checkpoint: Checkpoint) -> Any:
    import transformers

    found = checkpoint.config.get("model_type")
    try:
        if found not in transformers.CONFIG_MAPPING:
            raise EdgeError(
                f"{checkpoint.path / 'config.json'}: found model_type {found!r}, expected one that "
                "has a recipe or that transformers knows; write the module yourself and give "
                "--model package.module:factory"
            )
        return transformers.AutoConfig.from_pretrained(checkpoint.path, local_files_only=True)
    except EdgeError:
        raise
    except Exception as error:  # a config of wrong types makes transformers raise anything
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise EdgeError(
            f"{checkpoint.path / 'config.json'}: found {reason}, expected the settings of "
            f"{found}; fetch the checkpoint again"
        ) from error


def _choose_task(checkpoint: Checkpoint, task: str | None, task_types: list[str | None]) -> str:
    architectures = [str(name) for name in checkpoint.config.get("architectures") or []]
    if task == IMAGES or (task is None and _ends(architectures, ("ForImageClassification",))):
        return IMAGES
    if task is None and _ends(architectures[:1], GENERATORS):
        raise EdgeError(
            f"{checkpoint.path / 'config.json'}: found {architectures[0]}, which generates text, "
            "expected one of a family with a recipe for that; give --task feature-extraction for "
            "its hidden states, or --model package.module:factory"
        )
    chosen = task or likely_task(task_types, checkpoint, tuple(CLASSES))
    if chosen not in CLASSES:
        raise EdgeError(
            f"task: found {chosen!r}, expected one of {', '.join(CLASSES)} for a model without a "
            "recipe; use --task"
        )
    return chosen


def _ends(names: list[str], endings: tuple[str, ...]) -> bool:
    return any(name.endswith(endings) for name in names)


def _auto_class(checkpoint: Checkpoint, config: Any, task: str) -> Any:
    """Return transformers' class for a task; of an encoder-decoder, its encoder's."""
    import transformers

    name = CLASSES[task]
    encoders = transformers.AutoModelForTextEncoding
    if name == "AutoModel" and type(config) in encoders._model_mapping:
        return encoders
    auto = getattr(transformers, name)
    if type(config) not in auto._model_mapping or config.is_encoder_decoder:
        raise EdgeError(
            f"{checkpoint.path / 'config.json'}: found model_type {config.model_type!r}, for which "
            f"transformers has no encoder as {name}, expected one with it; choose another "
            "--task, or give --model package.module:factory"
        )
    return auto


def _subject(
    module: torch.nn.Module, architecture: Architecture, task: str, checkpoint: Checkpoint
) -> Subject:
    """Return what is traced: the module and an example of what its class reads."""
    import torch

    main = str(getattr(module, "main_input_name", ""))
    known = inspect.signature(module.forward).parameters
    config = architecture.config
    with torch.device("meta"):
        if main == "input_ids":
            ids = torch.ones(TOKENS, dtype=torch.int64)
            examples = {"input_ids": ids, "attention_mask": ids}
            if "token_type_ids" in known and getattr(config, "type_vocab_size", 0) > 1:
                examples["token_type_ids"] = ids
            axes = dict.fromkeys(examples, TOKEN_AXES)
        elif main == "pixel_values":
            examples = {"pixel_values": torch.zeros(2, *_image_shape(config, checkpoint))}
            axes = {"pixel_values": {0: "batch"}}
        else:
            raise EdgeError(
                f"{checkpoint.path / 'config.json'}: found {type(module).__name__}, which reads "
                f"{main or 'no known input'}, expected input_ids or pixel_values; give --model "
                "package.module:factory with example inputs"
            )
    if "attention_mask" in examples and "attention_mask" not in known:
        raise EdgeError(
            f"{checkpoint.path / 'config.json'}: found {type(module).__name__}, which takes no "
            "attention_mask, expected one; give --model package.module:factory"
        )
    outputs = OUTPUTS.get(task, ("logits",))
    where = str(checkpoint.path)
    return Subject(module, examples, axes, where, outputs, architecture.buffers())


def _image_shape(config: Any, checkpoint: Checkpoint) -> tuple[int, int, int]:
    size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", 3)
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(sides) != 2 or not all(type(n) is int and n > 0 for n in (*sides, channels)):
        raise EdgeError(
            f"{checkpoint.path / 'config.json'}: found image_size {size!r}, expected the height "
            "and width of its images; give --model package.module:factory with example inputs"
        )
    return (channels, *sides)


def _heads(module: torch.nn.Module) -> frozenset[str]:
    """Return the tensors that stand beside the base model of a class with a head."""
    prefix = str(getattr(module, "base_model_prefix", ""))
    if not prefix or not hasattr(module, prefix):
        return frozenset()
    return frozenset(n for n, _ in module.named_parameters() if not n.startswith(f"{prefix}."))


def _max_length(module: torch.nn.Module, checkpoint: Checkpoint) -> int:
    """Return the longest input: rows of the position table, and what the tokenizer allows."""
    import torch

    limit = 512
    for name, table in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, torch.nn.Embedding):
            # RoBERTa and its kin count positions from behind the padding token.
            first = 0 if table.padding_idx is None else table.padding_idx + 1
            limit = table.num_embeddings - first
            break
    else:
        positions = checkpoint.config.get("max_position_embeddings")
        limit = positions if type(positions) is int and positions > 0 else limit
    given = token_limit(checkpoint.path / "tokenizer_config.json", "model_max_length")
    return int(min(limit, given or limit))


def _vocabulary(module: Any) -> int:
    return int(module.get_input_embeddings().weight.shape[0])
