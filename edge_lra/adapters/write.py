"""Write low-rank factors as a folder that PEFT loads."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from edge_lra.adapters.kinds import LowRank
from edge_lra.adapters.saved import PEFT_PREFIX, Array
from edge_lra.bundle import staged
from edge_lra.errors import EdgeError
from edge_lra.places import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from edge_lra.tensor_files import read_config

LABELS = "labels.json"
KEPT = (
    "bias",
    "base_model_name_or_path",
    "fan_in_fan_out",
    "modules_to_save",
    "revision",
    "task_type",
)


def peft_config(sites: Mapping[str, LowRank], like: Mapping[str, Any]) -> dict[str, Any]:
    """Return an adapter_config.json for sites whose scale is folded into the up factor.

    Alpha equals the rank everywhere, so that PEFT scales by 1. A site of another rank than most
    is named in rank_pattern and alpha_pattern.

    Args:
        sites: factors by module name, as in the model that was trained.
        like: a config whose base model, task and saved modules stay.
    """
    ranks = {module: len(site.down) for module, site in sites.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    odd = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != usual}
    return {
        **{key: like[key] for key in KEPT if like.get(key) is not None},
        "peft_type": "LORA",
        "inference_mode": True,
        "r": usual,
        "lora_alpha": usual,
        "target_modules": sorted(sites),
        "rank_pattern": odd,
        "alpha_pattern": odd,
    }


def peft_tensors(sites: Mapping[str, LowRank], others: Mapping[str, Array]) -> dict[str, Array]:
    """Return the tensors of adapter_model.safetensors: scaled factors, and whole tensors."""
    tensors = {}
    for name, values in others.items():
        module, _, last = name.rpartition(".")  # an adapted module's own stand one level deeper
        tensors[f"{module}.base_layer.{last}" if module in sites else name] = values
    for module, site in sites.items():
        tensors[f"{module}.lora_A.weight"] = site.down
        tensors[f"{module}.lora_B.weight"] = site.up.astype(np.float64) * site.scale
    return {
        PEFT_PREFIX + name: np.ascontiguousarray(values, np.float32)
        for name, values in sorted(tensors.items())
    }


@contextmanager
def adapter_folder(out: Path, force: bool, sources: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` if the block succeeds.

    Args:
        out: the adapter's folder.
        force: replace what is there.
        sources: what the block reads, which `out` must not be or hold.

    Raises:
        EdgeError: `out` is there (without `force`), or is what is read.
    """
    target = Path(os.path.realpath(out))
    for source in sources:
        place = Path(os.path.realpath(source))
        if target == place or target in place.parents:
            raise EdgeError(
                f"{out}: found {source} there, which this command reads, expected another folder; "
                "choose another --out"
            )
    if out.exists() and not force:
        raise EdgeError(f"{out}: found it there, expected a new folder; use --force to replace it")
    with staged(out, force=True) as folder:
        yield folder


def write_labels(folder: Path, labels: Sequence[str] | None) -> None:
    """Write the names of an adapter's outputs, if any, beside it, where an export finds them."""
    if not labels:
        return
    document = json.dumps({"labels": list(labels)}, ensure_ascii=False) + "\n"
    (folder / LABELS).write_text(document, encoding="utf-8")


def read_labels(folder: Path) -> tuple[str, ...] | None:
    """Return the names of an adapter's outputs, where it brings them.

    Raises:
        EdgeError: the file is no list of names.
    """
    if not (folder / LABELS).is_file():
        return None
    labels = read_config(folder / LABELS).get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise EdgeError(f"{folder / LABELS}: found {labels!r}, expected a list of names")
    return tuple(labels)


def write_peft(
    folder: Path,
    config: Mapping[str, Any],
    sites: Mapping[str, LowRank],
    others: Mapping[str, Array],
    labels: Sequence[str] | None = None,
) -> None:
    """Write a PEFT LoRA folder into an existing, empty folder.

    Args:
        folder: where to.
        config: settings to keep, such as the base's name and the task.
        sites: factors by module name, as in the model that was trained.
        others: whole tensors (a head, say) by name.
        labels: names of the outputs, which PEFT has no place for.
    """
    document = json.dumps(peft_config(sites, config), indent=2, sort_keys=True)
    (folder / ADAPTER_WEIGHTS[0]).write_bytes(save(peft_tensors(sites, others)))
    (folder / ADAPTER_CONFIG).write_text(document + "\n", encoding="utf-8")
    write_labels(folder, labels)
