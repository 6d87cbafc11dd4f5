"""diffusers: pytorch_lora_weights.safetensors, in the spellings of its releases.

    unet.MODULE.lora_A.weight                          since 0.23, in PEFT's words
    unet.MODULE.lora.down.weight, lora_linear_layer    before
    unet.BLOCK.attn1.processor.to_q_lora.down.weight   before that

By diffusers/utils/state_dict_utils.py and peft_utils.get_peft_kwargs: alpha by module where there
is one, else the rank, so that the scale is 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from edge_lra.adapters.formats.build import DOWN, MAGNITUDE, UP, Parts, part_of
from edge_lra.adapters.formats.format import Base
from edge_lra.adapters.formats.kohya import KEYS as KOHYA
from edge_lra.adapters.formats.place import Place, only
from edge_lra.adapters.formats.scalar import read_number
from edge_lra.adapters.kinds import LORA
from edge_lra.adapters.kinds.rules import read_scale
from edge_lra.adapters.saved import PEFT_PREFIX, Saved
from edge_lra.errors import EdgeError
from edge_lra.tensor_files import SafetensorsFile, TensorFile

METADATA = "lora_adapter_metadata"
COMPONENT = re.compile(r"(unet|text_encoder(?:_\d)?|transformer(?:_\d)?|prior)\.")
NEW = re.compile(r"(.+)\.(lora_A|lora_B)\.weight")
OLD = re.compile(r"(.+)\.(?:lora|lora_linear_layer)\.(down|up)\.weight")
OLDEST = re.compile(r"(.+?)(?:\.processor)?\.to_(q|k|v|out)_lora\.(down|up)\.weight")
ALPHA = re.compile(r"(.+?)(?:\.lora(?:_A)?)?\.alpha")
MAGNITUDES = re.compile(r"(.+)\.lora_magnitude_vector(?:\.weight)?")
SIDES = {"lora_A": DOWN, "down": DOWN, "lora_B": UP, "up": UP}
# An attention of the U-Net, and of a text encoder, whose old names are the U-Net's.
PROJECTIONS = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
TEXT_PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
STYLES = re.compile(
    r"\.(lora\.(down|up)|lora_linear_layer\.(down|up)|to_(q|k|v|out)_lora\.(down|up))\.weight$"
)
FACTOR = re.compile(r"\.lora_[AB]\.weight$")


class Diffusers:
    """diffusers."""

    name = "diffusers"
    title = "diffusers"
    looks_like = "tensors unet.….lora_A.weight or ….lora.down.weight"

    def detect(self, place: Place) -> bool:
        """Its old names; or PEFT's names of factors without PEFT's prefix and config."""
        return bool(_files(place))

    def read(self, place: Place, base: Base | None) -> Saved:
        """Return the factors by module of the one model they are for."""
        path = only(place, [file.path for file in _files(place)], self.title)
        file = place.files[path]
        components = {m[1] if (m := COMPONENT.match(key)) else "" for key in file.tensors}
        if len(components) > 1:
            names = ", ".join(sorted(name or "no component" for name in components))
            raise EdgeError(
                f"{path}: found tensors of {names}, expected one model's; save each by itself"
            )
        (component,) = components
        parts, alphas = Parts(path), {}
        for key in sorted(file.tensors):
            module, part = _split(file, key, component)
            if part == "alpha":
                alphas[module] = read_number(file, key)
            else:
                parts.add(module, part, part_of(file, key))
        if stray := sorted(alphas.keys() - parts.sites.keys()):
            raise EdgeError(
                f"{path}: {stray[0]}: found an alpha without factors, expected both; "
                "the adapter is incomplete, save it again"
            )
        settings = _settings(file, component)
        for module in parts.sites:
            rank = parts.rank(module)
            default = _configured(settings, module) if settings else rank
            parts.scales[module] = alphas.get(module, default) / rank
        return parts.saved(place.path, self.title, path, {})


def _files(place: Place) -> list[TensorFile]:
    """Return the files with names of diffusers."""
    found = []
    for file in place.files.values():
        names = [key for key in file.tensors if not KOHYA.match(key)]
        old = any(map(STYLES.search, names))
        plain = any(FACTOR.search(key) and not key.startswith(PEFT_PREFIX) for key in names)
        if old or (plain and "peft_type" not in place.config):
            found.append(file)
    return found


def _split(file: TensorFile, key: str, component: str) -> tuple[str, str]:
    """Return module and part of a tensor's name.

    Raises:
        EdgeError: it is neither a factor, an alpha nor a magnitude.
    """
    name = key.removeprefix(f"{component}.") if component else key
    if match := OLDEST.fullmatch(name):
        text = component.startswith("text") or ".self_attn" in name
        projection = (TEXT_PROJECTIONS if text else PROJECTIONS)[match[2]]
        return f"{match[1]}.{projection}", SIDES[match[3]]
    for pattern in (NEW, OLD):
        if match := pattern.fullmatch(name):
            return match[1], SIDES[match[2]]
    if match := MAGNITUDES.fullmatch(name):
        return match[1], MAGNITUDE
    if match := ALPHA.fullmatch(name):
        return match[1], "alpha"
    raise EdgeError(
        f"{file.path}: {key}: found a name that diffusers' LoRA does not have, expected factors, "
        "alphas and magnitudes; save the adapter with save_lora_weights"
    )


def _settings(file: TensorFile, component: str) -> dict[str, Any]:
    """Return PEFT's config of the component, which newer releases keep in the file's head."""
    if not isinstance(file, SafetensorsFile):
        return {}
    from safetensors import safe_open

    with safe_open(file.path, "np") as opened:
        text = (opened.metadata() or {}).get(METADATA)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise EdgeError(f"{file.path}: {METADATA}: found no JSON object, expected one; save again")
    start = f"{component}." if component else ""
    settings = {key.removeprefix(start): v for key, v in found.items() if key.startswith(start)}
    LORA.rules.check(settings, f"{file.path}: {METADATA}")
    return settings


def _configured(settings: Mapping[str, Any], module: str) -> float:
    """Return the alpha that a config gives a module."""
    scale = read_scale(settings, METADATA, "lora_alpha")
    rank = scale.site_rank(module)
    return scale.site_scale(module) * rank
