"""What a checkpoint's files say about its use: task, labels, length, pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.recipe import EncoderRecipe, Recipe, pad_token_id
from edge_lra.tensor_files import read_config, read_json

TASK_TYPES = {
    "SEQ_CLS": "sequence-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "FEATURE_EXTRACTION": "feature-extraction",
    "CAUSAL_LM": "text-generation",
}
ARCHITECTURES = {
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
}
ONE_LABEL = "single_label_classification"
PROBLEM_TYPES = (ONE_LABEL, "multi_label_classification", "regression")
POOLING = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True)
class Use:
    """How the exported model is used; `labels` is None where there is no head."""

    task: str
    labels: tuple[str, ...] | None
    problem_type: str | None
    max_length: int | None  # in tokens; None where the inputs are none
    pooling: dict[str, Any] | None


def peft_task_type(architecture: str) -> str | None:
    """Return PEFT's task_type of a model class by the end of its name, or None."""
    task = next((t for end, t in ARCHITECTURES.items() if architecture.endswith(end)), None)
    return next((name for name, known in TASK_TYPES.items() if known == task), None)


def _optional(path: Path) -> dict[str, Any]:
    return read_config(path) if path.is_file() else {}


def choose_task(
    asked: str | None, task_types: Sequence[str | None], checkpoint: Checkpoint, recipe: Recipe
) -> str:
    """Return the asked task, the adapters', or what the checkpoint was made for.

    Raises:
        EdgeError: an unknown task, adapters of different tasks, or one that the family's graph
            does not serve.
    """
    task = asked if asked is not None else likely_task(task_types, checkpoint, recipe.tasks)
    if task not in recipe.tasks:
        raise EdgeError(
            f"task: found {task!r}, expected one of {', '.join(recipe.tasks)} for family "
            f"{recipe.family}; use --task"
        )
    return task


def likely_task(
    task_types: Sequence[str | None], checkpoint: Checkpoint, tasks: Sequence[str]
) -> str:
    """Return the task that adapters or a checkpoint were made for.

    Args:
        task_types: the adapters'.
        checkpoint: the base.
        tasks: all that the graph serves.

    Raises:
        EdgeError: adapters of different tasks, or a config of the wrong kind.
    """
    named = {TASK_TYPES[t] for t in task_types if t in TASK_TYPES}
    if len(named) > 1:
        raise EdgeError(
            f"adapters: found tasks {', '.join(sorted(named))}, expected one; use --task"
        )
    if named - {"feature-extraction"}:
        return named.pop()
    architectures = checkpoint.config.get("architectures") or []
    if not isinstance(architectures, list):
        raise EdgeError(f"config.json: found architectures {architectures!r}, expected a list")
    for name in map(str, architectures):
        for ending, task in ARCHITECTURES.items():
            if name.endswith(ending):
                return task
    if len(tasks) == 1:
        return tasks[0]
    has_pooling = (checkpoint.path / "modules.json").is_file()
    return "sentence-embedding" if has_pooling else "feature-extraction"


def read_use(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    recipe: Recipe,
    task: str,
    labels: Sequence[str] | None,
    outputs: int | None,
) -> Use:
    """Collect labels, problem type, length and pooling.

    Args:
        checkpoint: the base.
        config: the base's.
        recipe: its family's recipe.
        task: one of TASKS.
        labels: names the user gave, or None for the config's.
        outputs: size of the head's last layer, None without a head.
    """
    pooling = read_pooling(checkpoint.path) if task == "sentence-embedding" else None
    length = max_length(checkpoint, config, recipe, task)
    if outputs is None or task == "question-answering":
        return Use(task, None, None, length, pooling)
    problem = None
    if task == "sequence-classification":
        problem = checkpoint.config.get("problem_type")
        problem = problem or ("regression" if outputs == 1 else ONE_LABEL)
        if problem not in PROBLEM_TYPES:
            known = ", ".join(PROBLEM_TYPES)
            raise EdgeError(f"config.json: found problem_type {problem!r}, expected one of {known}")
    names = tuple(labels) if labels is not None else config_labels(checkpoint.config, outputs)
    if len(names) != outputs:
        raise EdgeError(
            f"labels: found {len(names)}, expected {outputs}, one for each output of the head"
        )
    return Use(task, names, problem, length, None)


def config_labels(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return the config's `id2label` if it has `count` names, else LABEL_0, LABEL_1, ..."""
    given = config.get("id2label") or {}
    try:
        names = {int(key): str(value) for key, value in given.items()}
    except (AttributeError, ValueError):
        raise EdgeError(
            f"config.json: found id2label {given!r}, expected names by number; correct it"
        ) from None
    if sorted(names) == list(range(count)):
        return tuple(names[i] for i in range(count))
    return tuple(f"LABEL_{i}" for i in range(count))


def max_length(checkpoint: Checkpoint, config: Mapping[str, Any], recipe: Recipe, task: str) -> int:
    """Return the longest input in tokens: positions, tokenizer, sentence embedding settings."""
    positions = recipe.count(config, "positions")
    if isinstance(recipe, EncoderRecipe) and recipe.position_ids == "after_padding":
        positions -= pad_token_id(config, 1) + 1
    limits = [positions, token_limit(checkpoint.path / "tokenizer_config.json", "model_max_length")]
    if task == "sentence-embedding":
        limits.append(token_limit(checkpoint.path / "sentence_bert_config.json", "max_seq_length"))
    return int(min(limit for limit in limits if limit))


def token_limit(path: Path, key: str) -> float | None:
    """Return the number of tokens that a file of settings allows, or None.

    Raises:
        EdgeError: it is no number of tokens.
    """
    value = _optional(path).get(key)
    if value is None or (type(value) in (int, float) and value >= 1):
        return value
    raise EdgeError(f"{path}: {key}: found {value!r}, expected a number of tokens; correct it")


def read_pooling(path: Path) -> dict[str, Any]:
    """Return pooling mode and normalisation from sentence-transformers' `modules.json`.

    Raises:
        EdgeError: a module or pooling mode that is not honoured.
    """
    result = {"mode": "mean", "normalize": False}
    for module in _modules(path / "modules.json"):
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            result["mode"] = _pooling_mode(path / module["path"] / "config.json")
        elif kind == "Normalize":
            result["normalize"] = True
        elif kind != "Transformer":
            raise EdgeError(
                f"{path / 'modules.json'}: found module {module['type']}, expected Transformer, "
                "Pooling and Normalize; use --task feature-extraction and apply it yourself"
            )
    return result


def _modules(file: Path) -> list[dict[str, str]]:
    modules = read_json(file) if file.is_file() else []
    whole = isinstance(modules, list) and all(
        isinstance(module, dict)
        and all(isinstance(module.get(key), str) for key in ("type", "path"))
        for module in modules
    )
    if not whole:
        raise EdgeError(f"{file}: found {modules!r:.60}, expected modules with type and path")
    return list(modules)


def _pooling_mode(path: Path) -> str:
    config = _optional(path)
    active = [
        key for key, value in config.items() if key.startswith("pooling_mode_") and value is True
    ]
    if "pooling_mode" in config:  # the newer files name the mode itself
        mode = config["pooling_mode"]
        active = [key for key, value in POOLING.items() if value == mode] or [mode]
    if len(active) != 1 or active[0] not in POOLING:
        raise EdgeError(f"{path}: found {active}, expected one of {', '.join(POOLING)}")
    return POOLING[active[0]]
