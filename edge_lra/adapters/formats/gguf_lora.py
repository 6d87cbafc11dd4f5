"""GGUF as llama.cpp's convert_lora_to_gguf.py writes it: lora_a and lora_b for each weight.

    W' = W + (alpha / rank) b a     a (rank, in), b (out, rank); rank by tensor, alpha one for all

Rows of b follow the order in which llama.cpp stores queries and keys. The embedding's a is stored
transposed, (vocabulary, rank). An alpha of 0 would count as "scale 1" there: it is refused.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.adapters.formats.build import (
    DOWN,
    DOWN_ROWS,
    UP,
    UP_ROWS,
    Change,
    Part,
    Parts,
    transpose,
)
from edge_lra.adapters.formats.format import Base, heads, need_base
from edge_lra.adapters.formats.gguf_names import KEY, QUERY, architecture, modules_by_name
from edge_lra.adapters.formats.place import Place, only
from edge_lra.adapters.formats.plain import PlainSite, plain_sites, usual
from edge_lra.adapters.names import tied_heads
from edge_lra.adapters.saved import Array, Saved
from edge_lra.errors import EdgeError
from edge_lra.row_order import check_rows, to_halves, to_pairs
from edge_lra.tensor_files import TensorInfo

SUFFIX = ".gguf"
TABLE = "token_embd.weight"
PART = re.compile(r"(.+\.weight)\.lora_([ab])")
TYPE, KIND, ALPHA = "general.type", "adapter.type", "adapter.lora.alpha"


class Gguf:
    """GGUF."""

    name = "gguf"
    title = "GGUF"
    looks_like = f"a {SUFFIX} file with {TYPE} adapter"
    suffix: str | None = SUFFIX

    def detect(self, place: Place) -> bool:
        """A GGUF file that says it is an adapter; alone, any GGUF file."""
        files = place.with_suffix(SUFFIX)
        if place.path.is_file():
            return bool(files)
        return any(_value(_open(path), TYPE) == "adapter" for path in files)

    def read(self, place: Place, base: Base | None) -> Saved:
        """Return the factors under the base's names, rows in Hugging Face's order."""
        files = place.with_suffix(SUFFIX)
        if place.path.is_dir():
            files = [path for path in files if _value(_open(path), TYPE) == "adapter"]
        path = only(place, files, self.title)
        reader = _open(path)
        alpha = _check(reader, path)
        base = need_base(base, path, self.title, "has other names in GGUF")
        known = _value(reader, "general.architecture")
        if known != architecture(base, str(path)).name:
            raise EdgeError(
                f"{path}: found an adapter for {known!r}, expected one for "
                f"{architecture(base, str(path)).name!r} as the base; is it for another base?"
            )
        parts = _parts(reader, path, base)
        for module in parts.sites:
            parts.scales[module] = alpha / parts.rank(module)
        config = {"base_model_name_or_path": str(base.path)}
        return parts.saved(place.path, self.title, path, config)

    def write(self, folder: Path, saved: Saved, base: Base | None) -> Path:
        """Write one file, float32; what differs from the commonest alpha is folded into b."""
        sites = plain_sites(saved, self.title, base, allowed=("embeddings",))
        base = need_base(base, saved.path, "an adapter for GGUF", "has other names there")
        known = architecture(base, str(saved.path))
        names_of = modules_by_name(base, str(saved.path))
        names = {module: name for name, module in names_of.items()}
        alpha = usual({module: site.scale * site.rank for module, site in sites.items()})
        import gguf

        path = folder / f"adapter{SUFFIX}"
        writer = gguf.GGUFWriter(path, known.name)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(KIND, "lora")
        writer.add_float32(ALPHA, alpha)
        # What a reader gets back is the float32 of it.
        alpha = float(np.float32(alpha))
        for module, site in sorted(sites.items()):
            name = _target(saved, module, site.embedding, names, base)
            _check_shape(saved, module, site, base.tensors.get(f"{names_of[name]}.weight"))
            up = site.folded(alpha / site.rank)
            order = _order(name, base, f"{saved.file}: {module}", to_pairs)
            down = site.down.T if name == TABLE else site.down
            writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(down, np.float32))
            writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(order(up), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path


def _open(path: Path) -> Any:
    """Return gguf's reader of a file."""
    try:
        from gguf import GGUFReader
    except ImportError:
        raise EdgeError(
            f"{path}: found a GGUF file, expected gguf to read it; pip install 'edge-lra[export]'"
        ) from None
    try:
        return GGUFReader(path)
    except Exception as error:  # a damaged file makes the reader raise anything
        text = (str(error).splitlines() or [""])[0]
        raise EdgeError(
            f"{path}: found a damaged file ({text or type(error).__name__}), expected GGUF; "
            "fetch it again"
        ) from None


def _value(reader: Any, key: str) -> Any:
    """Return an entry of the file's head, or None."""
    entry = reader.get_field(key)
    return None if entry is None else entry.contents()


def _check(reader: Any, path: Path) -> float:
    """Return alpha.

    Raises:
        EdgeError: the file is no LoRA, or has no alpha.
    """
    for key, wanted in ((TYPE, "adapter"), (KIND, "lora")):
        if (found := _value(reader, key)) != wanted:
            raise EdgeError(f"{path}: {key}: found {found!r}, expected {wanted!r}; is it a LoRA?")
    if _value(reader, "adapter.alora.invocation_tokens"):
        raise EdgeError(
            f"{path}: adapter.alora.invocation_tokens: found some, expected none; an adapter that "
            "starts at a token is not supported"
        )
    alpha = _value(reader, ALPHA)
    if not isinstance(alpha, int | float) or not math.isfinite(alpha) or not alpha:
        raise EdgeError(
            f"{path}: {ALPHA}: found {alpha!r}, expected a number other than 0; "
            "convert the adapter again"
        )
    return float(alpha)


def _parts(reader: Any, path: Path, base: Base) -> Parts:
    """Return the sites by the base's names."""
    modules = modules_by_name(base, str(path))
    parts = Parts(path)
    for tensor in sorted(reader.tensors, key=lambda tensor: str(tensor.name)):
        match = PART.fullmatch(tensor.name)
        if match is None:
            raise EdgeError(
                f"{path}: {tensor.name}: found a tensor that is no factor, expected lora_a and "
                "lora_b; llama.cpp would pass over it or refuse it"
            )
        name, side = match.groups()
        if name not in modules:
            raise EdgeError(
                f"{path}: {name}: found no tensor in the base that GGUF calls so, expected one; "
                "is this adapter for another base?"
            )
        module, table = modules[name], name == TABLE
        if side == "a":
            change: Change = transpose if table else _same
        else:
            change = _order(name, base, f"{path}: {module}", to_halves)
        pair = (DOWN_ROWS, UP_ROWS) if table else (DOWN, UP)
        parts.add(module, pair[side == "b"], _part(tensor, path, change))
    return parts


def _part(tensor: Any, path: Path, change: Change) -> Part:
    """Return a tensor of any type that gguf can dequantize."""
    shape = tuple(int(n) for n in reversed(tensor.shape))

    def read() -> Array:
        from gguf import dequantize

        try:
            values = dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        except (NotImplementedError, ValueError):
            raise EdgeError(
                f"{path}: {tensor.name}: found {tensor.tensor_type.name}, expected F32, F16, BF16 "
                "or a type that gguf can read; convert the adapter with --outtype f32"
            ) from None
        if not np.isfinite(values).all():
            raise EdgeError(
                f"{path}: {tensor.name}: found NaN or Inf, expected finite values; the training "
                "diverged or the file is damaged, use another copy"
            )
        return np.ascontiguousarray(change(values), np.float32)

    turned = shape[::-1] if change is transpose else shape
    return Part(str(tensor.name), turned, read)


def _same(values: Array) -> Array:
    return values


def _order(name: str, base: Base, where: str, permute: Any) -> Change:
    """Return how the rows of a tensor's b are brought into the other order."""
    if not architecture(base, where).permuted or not (QUERY.search(name) or KEY.search(name)):
        return _same
    count = heads(base, where)[bool(KEY.search(name))]

    def change(values: Array) -> Array:
        check_rows(len(values), count, where)
        result: Array = permute(values, count)
        return result

    return change


def _target(saved: Saved, module: str, table: bool, names: dict[str, str], base: Base) -> str:
    """Return GGUF's name of a module's weight.

    Raises:
        EdgeError: it has none, or llama.cpp cannot adapt it.
    """
    where = f"{saved.file}: {module}"
    options = [module, *(f"{top}.{module}" for top in ("model", "transformer", "bert"))]
    found = next((names[option] for option in options if option in names), None)
    found = found or names.get(module.partition(".")[2])
    if found is None:
        raise EdgeError(
            f"{where}: found no name for it in GGUF, expected a weight of the base; "
            "is this adapter for another base?"
        )
    ties = tied_heads(base.tensors)
    shared = {name.removesuffix(".weight") for pair in ties.items() for name in pair}
    tied = module in shared or any(name.endswith("." + module) for name in shared)
    if tied or table != (found == TABLE):
        raise EdgeError(
            f"{where}: found factors of {'a table that a head shares' if tied else found}, which "
            "llama.cpp cannot adapt so, expected linear layers; adapt those"
        )
    return found


def _check_shape(saved: Saved, module: str, site: PlainSite, weight: TensorInfo | None) -> None:
    """Refuse factors of another size than the base's weight, stored either way round."""
    found = (len(site.up), site.down.shape[1])
    if weight is not None and weight.shape not in (found, found[::-1]):
        raise EdgeError(
            f"{saved.file}: {module}: found an update of {found}, the base weight is "
            f"{weight.shape}, expected one size; is this adapter for another base?"
        )
