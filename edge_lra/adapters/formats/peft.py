"""PEFT's own folder: adapter_config.json with peft_type, adapter_model.safetensors or .bin.

torchtune writes the same beside its native checkpoint, or as adapter_model.pt.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from edge_lra.adapters.formats.format import Base
from edge_lra.adapters.formats.place import Place
from edge_lra.adapters.formats.torchtune import KEYS as NATIVE
from edge_lra.adapters.saved import PEFT_PREFIX, Saved, find_weights, read_tensors
from edge_lra.adapters.write import read_labels, write_labels
from edge_lra.errors import EdgeError
from edge_lra.places import ADAPTER_CONFIG, ADAPTER_WEIGHTS

KEYS = re.compile(rf"^{re.escape(PEFT_PREFIX)}")


class Peft:
    """PEFT."""

    name = "peft"
    title = "PEFT"
    looks_like = "adapter_config.json with peft_type"
    suffix: str | None = None

    def detect(self, place: Place) -> bool:
        """A config with peft_type, or tensors with PEFT's prefix."""
        if place.holding(NATIVE):
            return False  # torchtune's own checkpoint; what stands beside it is a copy
        if place.path.is_dir() and "peft_type" in place.config:
            return True
        return bool(place.holding(KEYS))

    def read(self, place: Place, base: Base | None) -> Saved:
        """Return what is there; it is in PEFT's terms already."""
        if not place.config_file.is_file():
            raise EdgeError(
                f"{place.path}: found PEFT's tensors without {ADAPTER_CONFIG}, expected an adapter "
                "folder with both; save the adapter with PEFT's save_pretrained"
            )
        file = place.path
        if place.path.is_dir():
            own = [] if _has_weights(place.folder) else place.holding(KEYS)
            if not own and place.failures and not _has_weights(place.folder):
                raise next(iter(place.failures.values()))
            file = own[0].path if own else find_weights(place.folder)
        return Saved(
            place.path, self.title, place.config_file, file, place.config, read_tensors(file)
        )

    def write(self, folder: Path, saved: Saved, base: Base | None) -> Path:
        """Write the settings and the tensors as PEFT does.

        Raises:
            EdgeError: it is an adapter that PEFT does not have.
        """
        kind = saved.config.get("peft_type")
        if kind is None:
            raise EdgeError(
                f"{saved.path}: found {saved.config.get('adapter_type')!r}, expected a kind of "
                "adapter that PEFT has; convert it --to layers"
            )
        write_folder(folder, saved, PEFT_PREFIX)
        return folder


class Layers:
    """The project's own format for adapters of two layers; PEFT's files, without its prefix."""

    name = "layers"
    title = "edge-lra layers"
    looks_like = "adapter_config.json with adapter_type low-rank-layers"
    suffix: str | None = None

    def detect(self, place: Place) -> bool:
        """A config with adapter_type and no peft_type."""
        return "adapter_type" in place.config and "peft_type" not in place.config

    def read(self, place: Place, base: Base | None) -> Saved:
        """Return what is there."""
        file = place.path if place.path.is_file() else find_weights(place.folder)
        return Saved(
            place.path, self.title, place.config_file, file, place.config, read_tensors(file)
        )

    def write(self, folder: Path, saved: Saved, base: Base | None) -> Path:
        """Write the settings and the tensors.

        Raises:
            EdgeError: it is no adapter of two layers.
        """
        if "adapter_type" not in saved.config:
            raise EdgeError(
                f"{saved.path}: found {saved.config.get('peft_type')}, expected an adapter of two "
                "layers; convert it --to peft"
            )
        write_folder(folder, saved, "")
        return folder


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ADAPTER_WEIGHTS)


def write_folder(folder: Path, saved: Saved, prefix: str) -> None:
    """Write adapter_config.json, adapter_model.safetensors in float32, and its labels."""
    from safetensors.numpy import save

    tensors = {
        name if name.startswith("base_model.") else prefix + name: np.ascontiguousarray(
            saved.tensors[name], np.float32
        )
        for name in sorted(saved.tensors)
    }
    document = json.dumps(dict(saved.config), indent=2, sort_keys=True)
    (folder / ADAPTER_WEIGHTS[0]).write_bytes(save(tensors))
    (folder / ADAPTER_CONFIG).write_text(document + "\n", encoding="utf-8")
    write_labels(folder, read_labels(saved.path))
