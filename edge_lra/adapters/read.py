"""Read a PEFT LoRA folder into low-rank updates and replaced tensors of a base."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.adapters.kinds import LowRank
from edge_lra.adapters.options import HONOURED, Options, read_options
from edge_lra.adapters.saved import Saved, read_saved
from edge_lra.errors import EdgeError
from edge_lra.tensor_files import TensorInfo

Array = npt.NDArray[Any]
FACTOR = re.compile(r"(.+)\.lora_([AB])\.weight")
# Parts of names that only other methods than plain LoRA on linear layers save.
FOREIGN = re.compile(r"(^|\.)(lora_\w+|base_layer|token_adapter|trainable_tokens\w*)(\.|$)")


@dataclass(frozen=True)
class Adapter:
    """A trained adapter, resolved against the base it is for."""

    name: str
    path: Path
    sites: dict[str, LowRank]  # by the base weight's tensor name
    replacements: dict[str, Array]  # float32, by the tensor's name in the model
    rank: int  # the largest of its sites
    task_type: str | None
    base_model: str | None
    options: dict[str, Any]  # the honoured options as the file gives them


def read_adapter(
    path: str | Path, name: str, base: Mapping[str, TensorInfo], head_names: Collection[str]
) -> Adapter:
    """Read a folder that PEFT's `save_pretrained` or a Trainer checkpoint wrote.

    Args:
        path: the folder with adapter_config.json.
        name: what to call the adapter.
        base: the base checkpoint's tensors.
        head_names: tensors that a task head of this family may have beside the base's.

    Raises:
        EdgeError: the folder is incomplete, asks for something not supported, or does not fit
            the base; the message names the site.
    """
    saved = read_saved(path)
    file = saved.file
    options = read_options(saved.config, str(saved.config_file))
    factors, plain = sort_tensors(file, saved.tensors)
    rename = _find_rename(file, factors, base)
    conv1d = _is_conv1d(base, options.fan_in_fan_out)
    sites = {}
    for site, pair in factors.items():
        weight = base[f"{rename(site)}.weight"]
        sites[weight.name] = _site(f"{file}: {site}", site, pair, weight.shape, options, conv1d)
    replacements = _replacements(file, plain, rename, base, head_names)
    _check_saved_modules(file, options, replacements, head_names)
    if both := sorted(set(sites) & set(replacements)):
        raise EdgeError(
            f"{file}: {both[0]}: found both factors and a whole tensor, expected one of them; "
            "train the module one way"
        )
    return Adapter(
        name=name,
        path=saved.path,
        sites=sites,
        replacements=replacements,
        rank=max(len(update.down) for update in sites.values()),
        task_type=options.task_type,
        base_model=options.base_model,
        options={key: value for key, value in sorted(saved.config.items()) if key in HONOURED},
    )


def sort_tensors(
    file: Path, tensors: Mapping[str, Array]
) -> tuple[dict[str, dict[str, Array]], dict[str, Array]]:
    """Return each site's factors by "A" and "B", and the tensors that replace others."""
    factors: dict[str, dict[str, Array]] = {}
    plain = {}
    for key, values in sorted(tensors.items()):
        if match := FACTOR.fullmatch(key):
            factors.setdefault(match[1], {})[match[2]] = values
        elif FOREIGN.search(key):
            raise EdgeError(
                f"{file}: {key}: found a tensor that is no low-rank factor of a linear layer, "
                "expected lora_A.weight and lora_B.weight without an adapter name; "
                "save plain LoRA with PEFT's save_pretrained"
            )
        else:
            plain[key] = values
    if not factors:
        raise EdgeError(
            f"{file}: found no low-rank factors, expected tensors named ….lora_A.weight; "
            "is this a LoRA adapter?"
        )
    return factors, plain


@dataclass(frozen=True)
class _Rename:
    """Name in the model that was trained -> name in the base: one prefix less or one more."""

    drop: str = ""
    add: str = ""

    def __call__(self, name: str) -> str:
        return self.add + name.removeprefix(self.drop)


def _find_rename(file: Path, sites: Iterable[str], base: Mapping[str, TensorInfo]) -> _Rename:
    """Find the one prefix under which every site has a weight in the base."""
    names = list(sites)

    def missing(rename: _Rename) -> list[str]:
        return [name for name in names if f"{rename(name)}.weight" not in base]

    heads = {name.partition(".")[0] + "." for name in names if "." in name}
    tops = {name.partition(".")[0] + "." for name in base}
    candidates = [
        _Rename(),
        *(_Rename(drop=head) for head in sorted(heads)),
        *(_Rename(add=top) for top in sorted(tops)),
    ]
    fitting = [rename for rename in candidates if not missing(rename)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        places = " and ".join(f"{rename(names[0])}.weight" for rename in fitting)
        raise EdgeError(
            f"{file}: {names[0]}: found {places} in the base, expected one of them; "
            "use a base with one copy of the weights"
        )
    odd = missing(min(candidates, key=lambda rename: len(missing(rename))))[0]
    raise EdgeError(
        f"{file}: {odd}: found no weight of this name in the base, expected one for every site; "
        "is this adapter for another base?"
    )


def _is_conv1d(base: Mapping[str, TensorInfo], configured: bool) -> bool:
    """Return whether the base stores its linear weights as (in, out).

    PEFT goes by the module's type and corrects the config; here a bias as long as the second axis
    of its oblong weight tells a Conv1D. The config decides where the base does not tell.
    """
    seen = set()
    for name, weight in base.items():
        bias = base.get(name.removesuffix("weight") + "bias")
        if name.endswith(".weight") and bias and len(weight.shape) == 2:
            rows, columns = weight.shape
            if rows != columns and bias.shape in ((rows,), (columns,)):
                seen.add(bias.shape == (columns,))
    return seen.pop() if len(seen) == 1 else configured


def _site(
    where: str,
    site: str,
    pair: Mapping[str, Array],
    shape: tuple[int, ...] | None,
    options: Options,
    conv1d: bool,
) -> LowRank:
    """Check one site's factors against its configured rank and its base weight, where known."""
    for letter, role in (("A", "down"), ("B", "up")):
        if letter not in pair:
            raise EdgeError(
                f"{where}: found no lora_{letter}.weight ({role}), expected both factors; "
                "the adapter is incomplete, save it again"
            )
    down, up = pair["A"], pair["B"]
    flat = down.ndim == up.ndim == 2 and (shape is None or len(shape) == 2)
    if not flat or len(down) != up.shape[1]:
        weight = f" for a base weight {shape}" if shape else ""
        raise EdgeError(
            f"{where}: found factors {up.shape} and {down.shape}{weight}, "
            "expected (out, rank) and (rank, in); is this adapter for another base?"
        )
    rank = options.site_rank(site)
    if len(down) != rank:
        raise EdgeError(
            f"{where}: found rank {len(down)}, expected {rank} by adapter_config.json; "
            "use the config that was saved with these weights"
        )
    update = (len(up), down.shape[1])
    wanted = (shape[::-1] if conv1d else shape) if shape else update
    if update != wanted:
        raise EdgeError(
            f"{where}: found an update of {update}, the base weight needs {wanted}; "
            "is this adapter for another base?"
        )
    return LowRank(
        np.ascontiguousarray(down), np.ascontiguousarray(up), options.site_scale(site), conv1d
    )


def _replacements(
    file: Path,
    plain: Mapping[str, Array],
    rename: _Rename,
    base: Mapping[str, TensorInfo],
    head_names: Collection[str],
) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for key, values in plain.items():
        # A head stands beside the encoder: its name has no prefix to add or drop.
        name = next((n for n in (rename(key), key) if n in base or n in head_names), None)
        if name is None or name in found:
            raise EdgeError(
                f"{file}: {key}: found no tensor of this name in the base or its task heads, "
                "expected one; is this adapter for another base or task?"
            )
        # A head may have other labels than the base's; everything else keeps its shape.
        if name in base and name not in head_names and base[name].shape != values.shape:
            raise EdgeError(
                f"{file}: {key}: found shape {values.shape}, the base tensor is "
                f"{base[name].shape}; is this adapter for another base?"
            )
        found[name] = values
    for name, values in found.items():
        weight = found.get(name.removesuffix("bias") + "weight")
        if name.endswith(".bias") and weight is not None and values.shape != weight.shape[:1]:
            raise EdgeError(
                f"{file}: {name}: found shape {values.shape}, expected {weight.shape[:1]} as its "
                "weight has rows; save the adapter again"
            )
    return found


def _check_saved_modules(
    file: Path, options: Options, replacements: Mapping[str, Array], head_names: Collection[str]
) -> None:
    """Refuse a file that lacks a head its config promises: the base's would be a random one.

    PEFT adds the usual head names of a task to `modules_to_save`, whether the model has them or
    not, so only names that this family knows count.
    """
    for module in options.modules_to_save:
        pattern = re.compile(rf"(.*\.)?{re.escape(module)}(\..*)?")
        if any(map(pattern.fullmatch, head_names)) and not any(
            map(pattern.fullmatch, replacements)
        ):
            raise EdgeError(
                f"{file}: {module}: found none of its tensors, expected them by modules_to_save; "
                "save the adapter again"
            )


def read_low_rank(path: str | Path) -> tuple[Saved, dict[str, LowRank], dict[str, Array]]:
    """Read a LoRA of linear layers without its base.

    Returns:
        The files' content, the factors by module name as in the model that was trained, and the
        whole tensors (a head, say) by name.

    Raises:
        EdgeError: as `read_adapter`, or the adapter is more than low-rank factors.
    """
    saved = read_saved(path)
    options = read_options(saved.config, str(saved.config_file))
    factors, plain = sort_tensors(saved.file, saved.tensors)
    sites = {
        site: _site(f"{saved.file}: {site}", site, pair, None, options, conv1d=False)
        for site, pair in factors.items()
    }
    return saved, sites, plain
