"""Match a saved adapter to its base: an update for each tensor that it changes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_lra.adapters.kinds import Method, Site, Update
from edge_lra.adapters.kinds.layers import Layers
from edge_lra.adapters.kinds.rules import names, text
from edge_lra.adapters.kinds.update import Chain, Factors, Rows
from edge_lra.adapters.names import (
    LINEAR_HEADS,
    Rename,
    Sorted,
    find_rename,
    is_conv1d,
    is_own,
    method_of,
    sort_tensors,
    tied_heads,
)
from edge_lra.adapters.saved import Array, Saved, read_saved
from edge_lra.adapters.write import read_labels
from edge_lra.errors import EdgeError
from edge_lra.tensor_files import TensorInfo

if TYPE_CHECKING:
    from edge_lra.adapters.formats.format import Base


@dataclass(frozen=True)
class Adapter:
    """A trained adapter, resolved against the base it is for.

    Attributes:
        updates: by the base tensor's name; weights and biases.
        replacements: float32 whole tensors, by the tensor's name in the model.
        ties: tensors that shared an embedding's weight and no longer do -> that embedding. They
            start from its values in the base, whatever happens to the embedding.
        options: the honoured options as the file gives them.
        labels: names of its outputs, where it brings them.
        factors: what its linears become as graph inputs, by weight; worked out where needed.
        layers: the same for adapters of two layers.
    """

    name: str
    path: Path
    updates: dict[str, Update]
    replacements: dict[str, Array]
    task_type: str | None
    base_model: str | None
    options: dict[str, Any]
    kind: str = "LORA"
    format: str = "PEFT"
    ties: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    factors: dict[str, Factors] = field(default_factory=dict)
    layers: dict[str, Layers] = field(default_factory=dict)


def read_adapter(
    path: str | Path,
    name: str,
    base: Mapping[str, TensorInfo],
    head_names: Collection[str],
    checkpoint: Base | None = None,
) -> Adapter:
    """Read an adapter in any known format.

    Args:
        path: its folder or file.
        name: what to call the adapter.
        base: the base checkpoint's tensors.
        head_names: tensors that a task head of this family may have beside the base's.
        checkpoint: the base itself, which formats other than PEFT's may ask for heads and names.

    Raises:
        EdgeError: the folder is incomplete, asks for something not supported, or does not fit
            the base; the message names the site.
    """
    saved = read_saved(path, checkpoint)
    where = str(saved.config_file)
    method = method_of(saved.config, where)
    method.rules.check(saved.config, where)
    options = method.parse(saved.config, where)
    tensors = sort_tensors(saved.file, saved.tensors, method)
    method.check(options, tensors.sites, where)
    known = {head: base[name] for head, name in tied_heads(base).items()} | dict(base)
    places = {site: method.place(site, options) for site in tensors.sites}
    rename = find_rename(saved.file, places.values(), known)
    reader = _Reader(saved, method, options, tensors, known, rename)
    updates = _with_shared_rows(saved.file, base, reader.updates(places))
    replacements = _replacements(saved.file, tensors.plain, rename, base, head_names)
    _check_saved_modules(saved, replacements, head_names)
    replacements = {
        tensor: values
        for tensor, values in replacements.items()
        if tensor in head_names or not is_own(tensor, values, checkpoint)
    }
    own = {rename(name) for name in tensors.bases} | tensors.bases
    if both := sorted((set(updates) & set(replacements)) - own):
        raise EdgeError(
            f"{saved.file}: {both[0]}: found both factors and a whole tensor, expected one of "
            "them; train the module one way"
        )
    honoured = {k: v for k, v in saved.config.items() if method.rules.says(k) == "honoured"}
    return Adapter(
        name=name,
        path=saved.path,
        updates=updates,
        replacements=replacements,
        task_type=text(saved.config, where, "task_type"),
        base_model=text(saved.config, where, "base_model_name_or_path"),
        options=dict(sorted(honoured.items())),
        kind=method.peft_type,
        format=saved.format,
        ties=_broken_ties(base, updates, replacements),
        labels=read_labels(saved.path),
    )


@dataclass(frozen=True)
class _Reader:
    """Reads one adapter's sites."""

    saved: Saved
    method: Method
    options: Any
    tensors: Sorted
    base: Mapping[str, TensorInfo]
    rename: Rename

    @cached_property
    def conv1d(self) -> bool:
        """Whether the base stores its linear weights as (in, out)."""
        return is_conv1d(self.base, self.saved.config.get("fan_in_fan_out") is True)

    def updates(self, places: Mapping[str, str]) -> dict[str, Update]:
        """Return all sites' updates by the base tensor's name.

        Args:
            places: the tensor that each module's update is for, as the trained model names it.

        Raises:
            EdgeError: two modules are the same one of the base.
        """
        found: dict[str, Update] = {}
        for module, place in places.items():
            updates = self.site(module, place)
            if twice := sorted(found.keys() & updates.keys()):
                raise EdgeError(
                    f"{self.saved.file}: {module}: found another module that is also {twice[0]} "
                    "in the base, expected one; are these several adapters in one file?"
                )
            found |= updates
        return found

    def site(self, module: str, place: str) -> dict[str, Update]:
        """Return a site's updates by the base tensor's name."""
        name = next(n for n in (self.rename(place), place) if n in self.base)
        parts = self.tensors.sites[module]
        where = f"{self.saved.file}: {module}"
        bias = name.removesuffix("weight") + "bias"
        shape = self.base[name].shape
        # A kernel, a table of rows and a head are never stored the other way round.
        flat = len(shape) == 2 and not any("embedding" in part for part in parts)
        flat = flat and name.partition(".")[0] not in LINEAR_HEADS
        site = Site(where, module, parts, shape, bias in self.base, flat and self.conv1d)
        found = self.method.read(site, self.options, self.tensors.shared)
        names = {"weight": name, "bias": bias}
        return {names[part]: update for part, update in found.items()}


def _with_shared_rows(
    file: Path, base: Mapping[str, TensorInfo], updates: Mapping[str, Update]
) -> dict[str, Update]:
    """Return the updates; a head that shares its weight has the embedding's trained rows too.

    Raises:
        EdgeError: the head's own update is one that PEFT cannot put on top of them.
    """
    found = dict(updates)
    for head, embedding in tied_heads(base).items():
        rows, update = updates.get(embedding), updates.get(head)
        if not isinstance(rows, Rows) or update is None or isinstance(update, Rows):
            continue
        if not update.additive:
            raise EdgeError(
                f"{file}: {head}: found DoRA on a head that shares trained tokens, expected plain "
                "factors; PEFT does not compute it either"
            )
        found[head] = Chain((rows, update))
    return found


def _broken_ties(
    base: Mapping[str, TensorInfo],
    updates: Mapping[str, Update],
    replacements: Mapping[str, Array],
) -> dict[str, str]:
    """Return tensors that shared an embedding's weight and part from it by this adapter.

    PEFT's unmerged model adapts one of the two and leaves the other; its merge would change both.
    Rows that were trained as tokens stay shared.
    """
    ties = {}
    for head, embedding in tied_heads(base).items():
        alone = embedding in replacements or not isinstance(updates.get(embedding), Rows | None)
        if head in updates or head in replacements or alone:
            ties[head] = embedding
    return ties


def _replacements(
    file: Path,
    plain: Mapping[str, Array],
    rename: Rename,
    base: Mapping[str, TensorInfo],
    head_names: Collection[str],
) -> dict[str, Array]:
    tied = tied_heads(base)
    found: dict[str, Array] = {}
    for key, values in plain.items():
        # A head stands beside the encoder: its name has no prefix to add or drop.
        places = (rename(key), key)
        name = next((n for n in places if n in base or n in head_names or n in tied), None)
        if name is None or name in found:
            raise EdgeError(
                f"{file}: {key}: found no tensor of this name in the base or its task heads, "
                "expected one; is this adapter for another base or task?"
            )
        # A head may have other labels than the base's; everything else keeps its shape.
        shape = base[tied.get(name, name)].shape if name not in head_names else values.shape
        if shape != values.shape:
            raise EdgeError(
                f"{file}: {key}: found shape {values.shape}, the base tensor is "
                f"{shape}; is this adapter for another base?"
            )
        found[name] = values
    for name, values in found.items():
        weight = found.get(name.removesuffix("bias") + "weight")
        outputs = () if weight is None else (weight.shape[:1], weight.shape[1:2])
        if name.endswith(".bias") and weight is not None and values.shape not in outputs:
            raise EdgeError(
                f"{file}: {name}: found shape {values.shape}, expected {weight.shape[:1]} as its "
                "weight has rows; save the adapter again"
            )
    return found


def _check_saved_modules(
    saved: Saved, replacements: Mapping[str, Array], head_names: Collection[str]
) -> None:
    """Refuse a file that lacks a head its config promises: the base's would be a random one.

    PEFT adds the usual head names of a task to `modules_to_save`, whether the model has them or
    not, so only names that this family knows count.
    """
    for module in names(saved.config, str(saved.config_file), "modules_to_save"):
        pattern = re.compile(rf"(.*\.)?{re.escape(module)}(\..*)?")
        if any(map(pattern.fullmatch, head_names)) and not any(
            map(pattern.fullmatch, replacements)
        ):
            raise EdgeError(
                f"{saved.file}: {module}: found none of its tensors, expected them by "
                "modules_to_save; save the adapter again"
            )
