"""MLX-LM: adapters.safetensors, and adapter_config.json with lora_parameters.

    y = W x + scale * (x a) b        a (in, rank), b (rank, out)    mlx_lm/tuner/lora.py
    DoRA: times m / ||W + scale * b^T a^T|| by row                  mlx_lm/tuner/dora.py

An embedding's table is changed by scale * a b, a (vocabulary, rank); a head that shares the table
is changed with it (`as_linear`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.adapters.formats.build import (
    DOWN,
    DOWN_ROWS,
    MAGNITUDE,
    UP,
    UP_ROWS,
    Parts,
    part_of,
    transpose,
)
from edge_lra.adapters.formats.format import Base, need_base
from edge_lra.adapters.formats.place import Place, only
from edge_lra.adapters.formats.plain import PlainSite, plain_sites, usual
from edge_lra.adapters.kinds.rules import factor, positive
from edge_lra.adapters.names import tied_heads
from edge_lra.adapters.saved import Saved
from edge_lra.errors import EdgeError
from edge_lra.places import ADAPTER_CONFIG
from edge_lra.tensor_files import TensorFile

WEIGHTS = "adapters.safetensors"
KEYS = re.compile(r"\.lora_[ab]$")
PART = re.compile(r"(.+)\.(lora_a|lora_b|m)")
# Without a base, an embedding is told by the names that models of mlx-lm give it.
EMBEDDING = re.compile(r"(^|\.)(embed_tokens|word_embeddings|embeddings?|wte|tok_embeddings)$")


class Mlx:
    """MLX-LM."""

    name = "mlx"
    title = "MLX-LM"
    looks_like = f"{WEIGHTS} and {ADAPTER_CONFIG} with lora_parameters"
    suffix: str | None = None

    def detect(self, place: Place) -> bool:
        """A config as `mlx_lm.lora` writes it, or its names of factors."""
        if place.path.is_dir() and {"fine_tune_type", "lora_parameters"} & place.config.keys():
            return True
        return bool(place.holding(KEYS))

    def read(self, place: Place, base: Base | None) -> Saved:
        """Return the factors the other way round, and scale * rank as alpha."""
        where = str(place.config_file)
        kind = place.config.get("fine_tune_type", "lora")
        if kind not in ("lora", "dora"):
            raise EdgeError(
                f"{where}: fine_tune_type: found {kind!r}, expected lora or dora; "
                "fuse it with mlx_lm.fuse and use it as a model"
            )
        rank, scale = _settings(place.config, where)
        file = _open(place)
        parts = Parts(file.path)
        for key in sorted(file.tensors):
            _add(parts, file, key, base)
        for module, found in parts.sites.items():
            parts.scales[module] = scale
            if (MAGNITUDE in found) != (kind == "dora"):
                odd = "an m" if MAGNITUDE in found else "no m"
                raise EdgeError(
                    f"{file.path}: {module}: found {odd} with fine_tune_type {kind}; use the "
                    "config that was saved with these weights"
                )
            if parts.rank(module) != rank:
                raise EdgeError(
                    f"{file.path}: {module}: found rank {parts.rank(module)}, expected {rank} by "
                    f"{ADAPTER_CONFIG}; use the config that was saved with these weights"
                )
        config = {"base_model_name_or_path": place.config.get("model"), "task_type": "CAUSAL_LM"}
        return parts.saved(place.path, self.title, place.config_file, config)

    def write(self, folder: Path, saved: Saved, base: Base | None) -> Path:
        """Write both files; one rank for all sites, padded with zeros, and one scale."""
        sites = plain_sites(saved, self.title, base, allowed=("DoRA", "embeddings"))
        _check_ties(sites, saved, base)
        if len({site.magnitude is None for site in sites.values()}) > 1:
            raise EdgeError(f"{saved.file}: found DoRA at some sites, expected it at all or none")
        scale = usual({module: site.scale for module, site in sites.items()})
        rank = max(site.rank for site in sites.values())
        tensors = {}
        for module, site in sites.items():
            spare = rank - site.rank
            down = np.pad(site.down, ((0, spare), (0, 0)))
            up = np.pad(site.folded(scale), ((0, 0), (0, spare)))
            tensors[f"{module}.lora_a"] = np.ascontiguousarray(down.T)
            tensors[f"{module}.lora_b"] = np.ascontiguousarray(up.T)
            if site.magnitude is not None:
                tensors[f"{module}.m"] = site.magnitude
        config = {
            "fine_tune_type": "dora" if saved.config.get("use_dora") else "lora",
            "num_layers": _layers(sites, base),
            "lora_parameters": {
                "rank": rank,
                "scale": scale,
                "dropout": 0.0,
                "keys": sorted(sites),
            },
        }
        if model := saved.config.get("base_model_name_or_path"):
            config["model"] = model
        from safetensors.numpy import save

        (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "mlx"}))
        text = json.dumps(config, indent=2, sort_keys=True)
        (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")
        return folder


def _settings(config: Mapping[str, Any], where: str) -> tuple[int, float]:
    """Return rank and scale."""
    settings = config.get("lora_parameters")
    if not isinstance(settings, dict):
        raise EdgeError(
            f"{where}: lora_parameters: found {settings!r}, expected rank and scale; use the "
            "adapter_config.json that was saved with these weights"
        )
    if settings.get("alpha") is not None:
        raise EdgeError(
            f"{where}: lora_parameters: found alpha, which old releases of mlx-lm multiply by and "
            "new ones pass over, expected scale alone; write their product there"
        )
    return (
        positive(where, "lora_parameters rank", settings.get("rank")),
        factor(where, "lora_parameters scale", settings.get("scale")),
    )


def _open(place: Place) -> TensorFile:
    if place.path.is_dir():
        path = place.path / WEIGHTS
        if path in place.failures:
            raise place.failures[path]
        if path in place.files:
            return place.files[path]
    found = [file.path for file in place.holding(KEYS)]
    if not found:
        raise EdgeError(f"{place.path}: found no {WEIGHTS}, expected the factors; is it complete?")
    return place.files[only(place, found, Mlx.title)]


def _add(parts: Parts, file: TensorFile, key: str, base: Base | None) -> None:
    """Note a tensor of the file under PEFT's name.

    Raises:
        EdgeError: it is a whole tensor, a stack of experts, or DoRA on an embedding.
    """
    match = PART.fullmatch(key)
    if match is None or len(file.tensors[key].shape) > 2:
        what = "a tensor" if match is None else "the factors of a stack of experts"
        raise EdgeError(
            f"{file.path}: {key}: found {what}, expected lora_a, lora_b and m of linear layers "
            "and embeddings; train those"
        )
    module, part = match.groups()
    rows = _is_embedding(file, module, base)
    if part == "m":
        if rows:
            raise EdgeError(
                f"{file.path}: {key}: found DoRA on an embedding, whose norms mlx-lm takes by "
                "token and PEFT by column, expected it on linear layers; train without it"
            )
        parts.add(module, MAGNITUDE, part_of(file, key))
        return
    names = (DOWN_ROWS, UP_ROWS) if rows else (DOWN, UP)
    parts.add(module, names[part == "lora_b"], part_of(file, key, transpose))
    if rows and base is not None:
        heads = {embedding: head for head, embedding in tied_heads(base.tensors).items()}
        if head := heads.get(f"{module}.weight"):
            # The head is the same table: its update (vocabulary, in) is a b as well.
            own = part_of(file, key)
            parts.add(head.removesuffix(".weight"), (UP, DOWN)[part == "lora_b"], own)


def _is_embedding(file: TensorFile, module: str, base: Base | None) -> bool:
    """Tell an embedding by its table's shape, or, where that is square, by its name."""
    named = bool(EMBEDDING.search(module))
    if base is None:
        if named:
            need_base(base, f"{file.path}: {module}", "an embedding", "says if a head shares it")
        return False
    weight = base.tensors.get(f"{module}.weight")
    down, up = (file.tensors.get(f"{module}.{part}") for part in ("lora_a", "lora_b"))
    if weight is None or down is None or up is None or len(weight.shape) != 2:
        return named
    table = (down.shape[0], up.shape[-1]) == weight.shape
    linear = (up.shape[-1], down.shape[0]) == weight.shape
    return named if table and linear else table


def _check_ties(sites: Mapping[str, PlainSite], saved: Saved, base: Base | None) -> None:
    """Refuse an adapted embedding whose table a head shares: mlx-lm would change both."""
    tables = [module for module, site in sites.items() if site.embedding]
    if not tables:
        return
    base = need_base(base, f"{saved.file}: {tables[0]}", "an embedding", "says if a head shares it")
    ties = {embedding: head for head, embedding in tied_heads(base.tensors).items()}
    for module in tables:
        if head := ties.get(f"{module}.weight", "").removesuffix(".weight"):
            raise EdgeError(
                f"{saved.file}: {module}: found an adapted embedding that {head} shares, "
                "which MLX-LM cannot say apart, expected one of its own; adapt linear layers"
            )


def _layers(sites: Mapping[str, PlainSite], base: Base | None) -> int:
    """Return how many blocks mlx-lm has to look at, from the last back."""
    if base is not None and type(count := base.config.get("num_hidden_layers")) is int:
        return int(count)
    numbers = [int(n) for module in sites for n in re.findall(r"\.(\d+)\.", module)[:1]]
    return 1 + max(numbers, default=-1)
