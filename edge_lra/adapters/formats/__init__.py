"""Adapter file formats, one file each: told by their content, read into PEFT's terms."""

from __future__ import annotations

import re
from pathlib import Path

from edge_lra.adapters.formats.adapterhub import AdapterHub
from edge_lra.adapters.formats.diffusers import Diffusers
from edge_lra.adapters.formats.format import Base, Format, Writer
from edge_lra.adapters.formats.gguf_lora import Gguf
from edge_lra.adapters.formats.kohya import Kohya
from edge_lra.adapters.formats.mlx import Mlx
from edge_lra.adapters.formats.onnx_adapter import OnnxAdapter
from edge_lra.adapters.formats.peft import Layers, Peft
from edge_lra.adapters.formats.place import Place
from edge_lra.adapters.formats.torchtune import Torchtune
from edge_lra.adapters.saved import Saved
from edge_lra.errors import EdgeError
from edge_lra.places import ADAPTER_CONFIG, ADAPTER_WEIGHTS

FORMATS: tuple[Format, ...] = (
    Peft(),
    Layers(),
    Mlx(),
    Gguf(),
    Torchtune(),
    OnnxAdapter(),
    Kohya(),
    Diffusers(),
    AdapterHub(),
)
STEPS = re.compile(r"(?:checkpoint-|epoch_)(\d+)")


def writers() -> dict[str, Writer]:
    """Return the formats that can be written, by name."""
    return {known.name: known for known in FORMATS if isinstance(known, Writer)}


def read_any(path: str | Path, base: Base | None = None) -> Saved:
    """Read an adapter in whichever format it is.

    Args:
        path: a folder or a file.
        base: the model it is for; some formats need its names, shapes and heads.

    Raises:
        EdgeError: no format, or several, are found; or the adapter is damaged.
    """
    place = Place(Path(path))
    found = [known for known in FORMATS if known.detect(place)]
    if len(found) > 1:
        titles = " and ".join(known.title for known in found)
        raise EdgeError(
            f"{place.path}: found {titles} together, expected one format; keep one adapter's files"
        )
    if not found:
        raise _unknown(place)
    return found[0].read(place, base)


def _unknown(place: Place) -> EdgeError:
    """Return the error that says best why nothing was found."""
    if place.failures:
        return next(iter(place.failures.values()))
    if not place.path.is_dir():
        looked = "; ".join(f"{known.title} ({known.looks_like})" for known in FORMATS)
        return EdgeError(f"{place.path}: found no known adapter, expected one of {looked}")
    named = [(STEPS.fullmatch(path.name), path) for path in place.path.iterdir() if path.is_dir()]
    if steps := sorted((int(match[1]), path) for match, path in named if match):
        return EdgeError(
            f"{place.path}: found {len(steps)} training checkpoints, expected one adapter; "
            f"give one of them, such as {steps[-1][1]}"
        )
    if place.config:
        return EdgeError(
            f"{place.config_file}: found neither peft_type nor what other formats have, expected "
            "the config of an adapter; save it again"
        )
    found = "a full model" if (place.path / "config.json").exists() else f"no {ADAPTER_CONFIG}"
    weights = " or ".join(ADAPTER_WEIGHTS)
    looked = "; ".join(f"{known.title} ({known.looks_like})" for known in FORMATS)
    return EdgeError(
        f"{place.path}: found {found} and no other adapter, expected an adapter folder "
        f"({ADAPTER_CONFIG} and {weights}) or one of {looked}"
    )
