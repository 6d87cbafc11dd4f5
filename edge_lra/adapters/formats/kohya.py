"""kohya's sd-scripts: lora_unet_.. and lora_te_.. with lora_down, lora_up and alpha.

    W' = W + (alpha / rank) up down      networks/lora.py; rank for a missing alpha, as there

A module's dots are written as underscores: which is which, the base's names tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edge_lra.adapters.formats.build import DOWN, MAGNITUDE, UP, Parts, part_of
from edge_lra.adapters.formats.format import Base, need_base
from edge_lra.adapters.formats.place import Place, only
from edge_lra.adapters.formats.scalar import read_number
from edge_lra.adapters.saved import Array, Saved
from edge_lra.errors import EdgeError
from edge_lra.tensor_files import TensorFile

PREFIX = r"(?:lora_(?:unet|te\d?|transformer|prior)|lycoris)"
KEYS = re.compile(rf"^{PREFIX}_[^.]+\.")
KEY = re.compile(rf"{PREFIX}_([^.]+)\.(.+)")
PARTS = {"lora_down.weight": DOWN, "lora_up.weight": UP, "dora_scale": MAGNITUDE}


class Kohya:
    """kohya's sd-scripts."""

    name = "kohya"
    title = "kohya"
    looks_like = "tensors lora_unet_… or lora_te_…"

    def detect(self, place: Place) -> bool:
        """Its names of modules."""
        return bool(place.holding(KEYS))

    def read(self, place: Place, base: Base | None) -> Saved:
        """Return the factors under the base's names."""
        path = only(place, [file.path for file in place.holding(KEYS)], self.title)
        base = need_base(base, path, "kohya's names", "says which underscores are dots")
        file = place.files[path]
        flat = flattened(base)
        parts, alphas = Parts(path), {}
        for key in sorted(file.tensors):
            match = KEY.fullmatch(key)
            if match is None or match[2] not in (*PARTS, "alpha"):
                raise EdgeError(
                    f"{path}: {key}: found a part that kohya's LoRA does not have, expected "
                    f"{', '.join(PARTS)} and alpha; other LyCORIS kinds are not supported"
                )
            module = resolve(file, key, match[1], flat)
            if match[2] == "alpha":
                alphas[module] = read_number(file, key)
            elif match[2] == "dora_scale":
                parts.add(module, MAGNITUDE, part_of(file, key, _by_output(file, key)))
            else:
                parts.add(module, PARTS[match[2]], part_of(file, key))
        for module in parts.sites:
            rank = parts.rank(module)
            parts.scales[module] = alphas.get(module, rank) / rank
        return parts.saved(
            place.path, self.title, path, {"base_model_name_or_path": base.path.name}
        )


def flattened(base: Base) -> dict[str, set[str]]:
    """Return the base's modules by their names with underscores.

    The same without its first part leads to a module too, where no whole name is like it: a text
    encoder's `text_model.` is in some checkpoints and not in others.
    """
    whole: dict[str, set[str]] = {}
    short: dict[str, set[str]] = {}
    for name, info in base.tensors.items():
        if name.endswith(".weight") and len(info.shape) > 1:
            module = name.removesuffix(".weight")
            whole.setdefault(module.replace(".", "_"), set()).add(module)
            rest = module.partition(".")[2]
            short.setdefault(rest.replace(".", "_"), set()).add(module)
    return short | whole


def resolve(file: TensorFile, key: str, name: str, flat: Mapping[str, set[str]]) -> str:
    """Return the module that a name with underscores is.

    Raises:
        EdgeError: the base has none of that name, or several.
    """
    found = sorted(flat.get(name, ()))
    if len(found) == 1:
        return found[0]
    what = " and ".join(found) if found else "no module of this name"
    raise EdgeError(
        f"{file.path}: {key}: found {what} in the base, expected one; "
        "is this adapter for another base, or for several models at once?"
    )


def _by_output(file: TensorFile, key: str) -> _Flat:
    """Return how (out, 1, ..) becomes (out,).

    Raises:
        EdgeError: it is by input, which PEFT's DoRA is not.
    """
    shape = file.tensors[key].shape
    if not shape or any(size != 1 for size in shape[1:]) or shape[0] == 1:
        raise EdgeError(
            f"{file.path}: {key}: found DoRA's magnitudes {shape}, expected (out, 1), one for each "
            "output; norms by input are not PEFT's"
        )
    return _Flat()


class _Flat:
    """Makes a vector."""

    def __call__(self, values: Array) -> Array:
        """Return the values in a row."""
        return values.reshape(-1)
