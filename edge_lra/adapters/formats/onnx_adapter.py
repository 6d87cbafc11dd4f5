"""onnxruntime's .onnx_adapter, with the names and layouts of Olive's `convert-adapters`.

    MODULE.lora_A.weight (in, rank), MODULE.lora_B.weight (rank, out) times alpha / rank

PEFT's prefix `base_model.model.` goes where the module begins with `model.`, else it stays. Other
tools may choose other names: a file with such is refused, for nothing in it says what they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.adapters.formats.build import DOWN, UP, Part, Parts
from edge_lra.adapters.formats.format import Base
from edge_lra.adapters.formats.place import Place, only
from edge_lra.adapters.formats.plain import plain_sites
from edge_lra.adapters.saved import PEFT_PREFIX, Array, Saved
from edge_lra.errors import EdgeError

SUFFIX = ".onnx_adapter"
PART = re.compile(r"(.+)\.(lora_A\.weight|lora_B\.weight)")
FLOATS = (np.float16, np.float32, np.float64)


class OnnxAdapter:
    """onnxruntime's adapter file."""

    name = "onnx_adapter"
    title = "onnx_adapter"
    looks_like = f"a {SUFFIX} file"
    suffix: str | None = SUFFIX

    def detect(self, place: Place) -> bool:
        """A file of that ending; nothing else is called so."""
        return bool(place.with_suffix(SUFFIX))

    def read(self, place: Place, base: Base | None) -> Saved:
        """Return the factors the other way round; their scale is in lora_B."""
        path = only(place, place.with_suffix(SUFFIX), self.title)
        parts = Parts(path)
        for key, values in sorted(_parameters(path).items()):
            match = PART.fullmatch(key)
            if match is None:
                raise EdgeError(
                    f"{path}: {key}: found a name that is not Olive's, expected "
                    "MODULE.lora_A.weight and MODULE.lora_B.weight in float; write the adapter "
                    "with `olive convert-adapters`"
                )
            module = match[1].removeprefix(PEFT_PREFIX)
            part = DOWN if match[2] == DOWN else UP
            parts.add(module, part, Part(key, values.shape[::-1], _reader(path, key, values)))
        return parts.saved(place.path, self.title, path, {})

    def write(self, folder: Path, saved: Saved, base: Base | None) -> Path:
        """Write one file, float32."""
        import onnxruntime

        tensors = {}
        for module, site in plain_sites(saved, self.title, base).items():
            name = module if module.startswith("model.") else PEFT_PREFIX + module
            tensors[f"{name}.{DOWN}"] = site.down.T
            tensors[f"{name}.{UP}"] = site.folded().T
        adapter = onnxruntime.AdapterFormat()
        values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value, np.float32))
            for name, value in tensors.items()
        }
        adapter.set_parameters(values)
        path = folder / f"adapter{SUFFIX}"
        adapter.export_adapter(str(path))
        return path


def _parameters(path: Path) -> dict[str, Array]:
    """Return the tensors of a file.

    Raises:
        EdgeError: it is damaged, or a tensor is no float.
    """
    import onnxruntime

    try:
        adapter: Any = onnxruntime.AdapterFormat.read_adapter(str(path))
        # The values belong to the adapter, which goes with this function.
        found = {name: np.array(value.numpy()) for name, value in adapter.get_parameters().items()}
    except Exception as error:  # onnxruntime's own types, by version
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EdgeError(
            f"{path}: found a damaged file ({text}), expected {SUFFIX}; fetch it again"
        ) from None
    for name, values in found.items():
        if values.dtype not in FLOATS:
            raise EdgeError(
                f"{path}: {name}: found {values.dtype}, expected float16 or float32; write the "
                "adapter without quantization"
            )
    return found


def _reader(path: Path, key: str, values: Array) -> Any:
    def read() -> Array:
        if not np.isfinite(values).all():
            raise EdgeError(
                f"{path}: {key}: found NaN or Inf, expected finite values; the training diverged "
                "or the file is damaged, use another copy"
            )
        return np.ascontiguousarray(values.T, np.float32)

    return read
