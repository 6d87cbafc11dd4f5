"""Read PEFT LoRA folders and find each tensor's place in the base."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edge_lra.adapters.kinds import LowRank
from edge_lra.adapters.options import check_options
from edge_lra.checkpoint import TensorInfo, read_config, read_tensors
from edge_lra.errors import EdgeError

Array = npt.NDArray[Any]
WRAPPER = "base_model.model."
FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True)
class Adapter:
    """An adapter whose options are resolved to one scale a site.

    Attributes:
        sites: factors by the base tensor's name in the checkpoint.
        replacements: tensors the adapter brings whole, such as a classifier, by name.
        rank: the largest rank of any site.
    """

    name: str
    path: Path
    sites: Mapping[str, LowRank]
    replacements: Mapping[str, Array]
    rank: int
    task_type: str | None
    base_model: str | None


def read_adapter(
    path: Path, name: str, base: Mapping[str, TensorInfo], head_names: Collection[str]
) -> Adapter:
    """Read a PEFT LoRA folder.

    Args:
        path: folder with adapter_config.json and adapter_model.safetensors.
        name: what the adapter is called from here on.
        base: the checkpoint's tensors, by name.
        head_names: tensors that an adapter may bring whole.

    Raises:
        EdgeError: an option is not honoured, or a tensor finds no place or does not fit.
    """
    config = read_config(path / "adapter_config.json")
    check_options(path / "adapter_config.json", config)
    tensors = {key.removeprefix(WRAPPER): value for key, value in _load(path).items()}
    factors: dict[str, dict[str, Array]] = {}
    replacements: dict[str, Array] = {}
    for key, value in tensors.items():
        match = FACTOR.fullmatch(key)
        if match:
            factors.setdefault(match["module"], {})[match["side"]] = value
        elif key in head_names:
            replacements[key] = value
        else:
            raise EdgeError(f"{path}: {key}: found no place for it in the base or its head")
    if not factors:
        raise EdgeError(f"{path}: found no site, expected lora_A and lora_B tensors")
    prefix = _prefix(path, factors, base)
    sites = {}
    for module, sides in factors.items():
        tensor = _base_name(module, prefix)
        sites[tensor] = _site(f"{path}: {module}", module, sides, base[tensor].shape, config)
    rank = max(len(site.down) for site in sites.values())
    return Adapter(
        name,
        path,
        sites,
        replacements,
        rank,
        config.get("task_type"),
        config.get("base_model_name_or_path"),
    )


def _load(path: Path) -> dict[str, Array]:
    file = path / "adapter_model.safetensors"
    if not file.exists():
        raise EdgeError(f"{path}: found no adapter_model.safetensors; is this a PEFT folder?")
    return read_tensors(file)


def _base_name(module: str, prefix: tuple[str, str]) -> str:
    removed, added = prefix
    return f"{added}{module.removeprefix(removed)}.weight"


def _prefix(
    path: Path, modules: Collection[str], base: Mapping[str, TensorInfo]
) -> tuple[str, str]:
    """Return the one (remove, add) pair under which every module stands in the base."""
    first = next(iter(modules))
    heads = {module.split(".")[0] + "." for module in modules}
    adds = {name.split(".")[0] + "." for name in base}
    candidates = [("", ""), *((h, "") for h in sorted(heads)), *(("", a) for a in sorted(adds))]
    fits = [
        pair
        for pair in candidates
        if all(m.startswith(pair[0]) and _base_name(m, pair) in base for m in modules)
    ]
    places = {tuple(_base_name(m, pair) for m in sorted(modules)): pair for pair in fits}
    if len(places) == 1:
        return next(iter(places.values()))
    if places:
        raise EdgeError(f"{path}: {first}: found {len(places)} places in the base, expected one")
    lost = next(
        (m for m in modules if not any(_base_name(m, p) in base for p in candidates)), first
    )
    raise EdgeError(f"{path}: {lost}: found no such weight in the base; is it for another base?")


def _pattern(patterns: Mapping[str, Any], module: str) -> Any:
    """Return the value of the first pattern that ends the module's name (PEFT's rule), or None."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return None


def _site(
    where: str,
    module: str,
    sides: Mapping[str, Array],
    shape: tuple[int, ...],
    config: Mapping[str, Any],
) -> LowRank:
    if len(sides) != 2:
        missing = "lora_B" if "A" in sides else "lora_A"
        raise EdgeError(f"{where}: found no {missing}, expected both factors")
    down, up = sides["A"], sides["B"]
    transposed = bool(config.get("fan_in_fan_out"))
    out, width = (shape[::-1] if transposed else shape) if len(shape) == 2 else (0, 0)
    rank = _pattern(config.get("rank_pattern") or {}, module) or config.get("r", 8)
    if not rank or not len(down):
        raise EdgeError(f"{where}: found rank 0, expected at least 1")
    if down.shape != (rank, width) or up.shape != (out, rank):
        raise EdgeError(
            f"{where}: adapter is {down.shape} and {up.shape}, the base weight needs "
            f"({rank}, {width}) and ({out}, {rank}); is this adapter for another base?"
        )
    alpha = _pattern(config.get("alpha_pattern") or {}, module)
    alpha = config.get("lora_alpha", 8) if alpha is None else alpha
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    return LowRank(down, up, float(scale), transposed)
