"""Every option of PEFT's LoraConfig: honoured, without effect on a trained adapter, or refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_lra.errors import EdgeError

HONOURED = frozenset(
    {
        "alpha_pattern",
        "base_model_name_or_path",
        "fan_in_fan_out",
        "init_lora_weights",
        "lora_alpha",
        "modules_to_save",
        "peft_type",
        "r",
        "rank_pattern",
        "task_type",
        "use_rslora",
    }
)
# They choose what is trained and how; the saved tensors already say what came of it.
INERT = frozenset(
    {
        "auto_mapping",
        "corda_config",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "target_modules",
    }
)
# They change the computation; the value is the one that leaves it alone. None always does.
REFUSED: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "bias": "none",
    "ensure_weight_tying": False,
    "kasa_config": None,
    "layer_replication": None,
    "lora_bias": False,
    "megatron_config": None,
    "monteclora_config": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "velora_config": None,
}
# These initialisations also change the base weight, which the adapter's file does not hold.
BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class Options:
    """The options that decide what an adapter computes."""

    rank: int
    alpha: float
    rslora: bool
    fan_in_fan_out: bool
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    modules_to_save: tuple[str, ...]
    task_type: str | None
    base_model: str | None

    def site_rank(self, site: str) -> int:
        """Return the rank at a module, named as in the model that was trained."""
        return self.rank_pattern.get(pattern_key(self.rank_pattern, site), self.rank)

    def site_scale(self, site: str) -> float:
        """Return alpha / rank, or alpha / sqrt(rank) (rsLoRA, Kalajdzievski 2023, eq. 5)."""
        rank = self.site_rank(site)
        alpha = self.alpha_pattern.get(pattern_key(self.alpha_pattern, site), self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def pattern_key(patterns: Mapping[str, Any], site: str) -> str:
    """Return the first pattern that matches the end of a name, as `peft.utils.get_pattern_key`."""
    for key in patterns:
        if re.match(rf"(.*\.)?({key})$", site):
            return key
    return site


def read_options(config: Mapping[str, Any], where: str) -> Options:
    """Validate an adapter_config.json and return what it asks for.

    Args:
        config: the parsed file.
        where: its path, for messages.

    Raises:
        EdgeError: an option is unknown, not supported, or of the wrong type.
    """
    _refuse(config, where)
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(BASE_CHANGING):
        raise EdgeError(
            f"{where}: init_lora_weights: found {init!r}, which also changed the base weights, "
            "expected an adapter for the plain base; save it with "
            "path_initial_model_for_weight_conversion"
        )
    modules = config.get("modules_to_save") or []
    if not isinstance(modules, list) or not all(isinstance(name, str) for name in modules):
        raise _wrong(where, "modules_to_save", modules, "a list of names")
    return Options(
        rank=_rank(where, "r", config.get("r", 8)),
        alpha=_number(where, "lora_alpha", config.get("lora_alpha", 8)),
        rslora=_flag(config, where, "use_rslora"),
        fan_in_fan_out=_flag(config, where, "fan_in_fan_out"),
        rank_pattern={
            key: _rank(where, f"rank_pattern {key}", value)
            for key, value in _patterns(config, where, "rank_pattern").items()
        },
        alpha_pattern={
            key: _number(where, f"alpha_pattern {key}", value)
            for key, value in _patterns(config, where, "alpha_pattern").items()
        },
        modules_to_save=tuple(modules),
        task_type=_text(config, where, "task_type"),
        base_model=_text(config, where, "base_model_name_or_path"),
    )


def _refuse(config: Mapping[str, Any], where: str) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise EdgeError(
            f"{where}: peft_type: found {kind!r}, expected 'LORA'; only LoRA adapters can be read"
        )
    for key, value in config.items():
        if key in HONOURED or key in INERT or value is None:
            continue
        if key in REFUSED:
            neutral = REFUSED[key]
            # An empty list or dict asks for nothing.
            if value == neutral or (neutral is None and value in (False, [], {})):
                continue
            raise EdgeError(
                f"{where}: {key}: found {value!r}, expected {neutral!r}; this option is not "
                "supported, train without it"
            )
        if value not in (False, "", [], {}):
            raise EdgeError(
                f"{where}: {key}: found {value!r}, expected only options of peft 0.21; "
                "it may change what the adapter computes"
            )


def _wrong(where: str, key: str, value: object, expected: str) -> EdgeError:
    return EdgeError(f"{where}: {key}: found {value!r}, expected {expected}; correct the file")


def _rank(where: str, key: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise _wrong(where, key, value, "a rank of at least 1")
    return value


def _number(where: str, key: str, value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise _wrong(where, key, value, "a finite number")
    return float(value)  # type: ignore[arg-type]


def _flag(config: Mapping[str, Any], where: str, key: str) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise _wrong(where, key, value, "true or false")
    return bool(value)


def _text(config: Mapping[str, Any], where: str, key: str) -> str | None:
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise _wrong(where, key, value, "a name")
    return value or None


def _patterns(config: Mapping[str, Any], where: str, key: str) -> dict[str, Any]:
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise _wrong(where, key, patterns, "names with values")
    for pattern in patterns:
        try:
            re.compile(rf"(.*\.)?({pattern})$")
        except re.error:
            raise _wrong(where, key, pattern, "a regular expression") from None
    return patterns
