"""Every option of PEFT's LoraConfig: honoured, inert for the result, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_lra.errors import EdgeError

HONOURED = frozenset(
    {
        "peft_type",
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "fan_in_fan_out",
        "modules_to_save",
        "base_model_name_or_path",
        "task_type",
        "init_lora_weights",
    }
)
# Which modules were adapted shows in the file's tensors; the rest acts only in training.
INERT = frozenset(
    {
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "lora_dropout",
        "inference_mode",
        "revision",
        "peft_version",
        "auto_mapping",
        "megatron_core",
        "qalora_group_size",
        "ensure_weight_tying",
        "runtime_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "loftq_config",
    }
)
# Other initialisations (PiSSA, OLoRA, LoftQ, CorDA ...) change the base weight when PEFT loads it.
INITS_THAT_KEEP_THE_BASE = (None, True, False, "gaussian", "eva", "orthogonal")
REFUSED: Mapping[str, Any] = {
    "bias": "none",
    "use_dora": False,
    "lora_bias": False,
    "use_qalora": False,
    "layer_replication": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "megatron_config": None,
    "use_bdlora": None,
    "kasa_config": None,
    "monteclora_config": None,
    "velora_config": None,
}


def check_options(where: object, config: Mapping[str, Any]) -> None:
    """Refuse, by its name, any option that changes the result and is not honoured.

    Raises:
        EdgeError: `peft_type` is not LORA, or an option not honoured has an effective value.
    """
    if config.get("peft_type") != "LORA":
        raise EdgeError(f"{where}: found peft_type {config.get('peft_type')!r}, expected 'LORA'")
    start = config.get("init_lora_weights")
    if start not in INITS_THAT_KEEP_THE_BASE:
        raise EdgeError(
            f"{where}: found init_lora_weights={start!r}, which changes the base weights; "
            "save the adapter with PEFT's path_initial_model_for_weight_conversion first"
        )
    for name, value in config.items():
        if name in HONOURED or name in INERT or not value or value == REFUSED.get(name):
            continue
        raise EdgeError(
            f"{where}: found {name}={value!r}, which is not honoured and would change the result; "
            "merge this adapter with PEFT first"
        )
