"""Names in an adapter's file: which module, which part, and what the base calls it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_lra.adapters.kinds import METHODS, Method
from edge_lra.adapters.saved import Array, Picked
from edge_lra.errors import EdgeError
from edge_lra.tensor_files import TensorInfo

if TYPE_CHECKING:
    from edge_lra.adapters.formats.format import Base

# Parts of names that only a tuner of PEFT gives; a plain tensor has none of them.
PREFIXES = ("lora_", "hada_", "lokr_", "ia3_", "vera_", "oft_", "boft_", "adalora_", "trainable_")
FOREIGN = re.compile(
    rf"(^|\.)((?:{'|'.join(PREFIXES)})\w+|base_layer|token_adapter|original_module)(\.|$)"
)
# With bias="all", PEFT saves the bias of a module trained whole three times: the trained one by its
# own name and again, and the one whose place it takes, which computes nothing.
COPIES = re.compile(r"\.(?:original_module|modules_to_save)\.")
# A head that shares its weight with an embedding is not in the checkpoint under its own name:
# embedding, head, and the start of a tensor's name without which a model has no such head.
TIES = (
    ("model.embed_tokens.weight", "lm_head.weight", "model."),
    ("transformer.wte.weight", "lm_head.weight", "transformer."),
    ("shared.weight", "lm_head.weight", "decoder."),
    ("word_embeddings.weight", "cls.predictions.decoder.weight", "cls.predictions."),
    ("word_embeddings.weight", "lm_head.decoder.weight", "lm_head."),
    ("word_embeddings.weight", "vocab_projector.weight", "vocab_"),
)
# Parts of the names of tables whose rows are looked up.
EMBEDDING_PARTS = ("embed", "wte", "wpe", "shared.weight", "relative_attention_bias")
# Heads that are linear layers even where a model's others store (in, out), as GPT-2's do.
LINEAR_HEADS = ("lm_head", "score", "classifier", "qa_outputs")
OTHER_HEADS = ("score.weight", "classifier.weight", "qa_outputs.weight")
CHUNK = 1 << 21  # values compared at a time


@dataclass(frozen=True)
class Sorted:
    """An adapter's tensors by what they are for.

    Attributes:
        sites: parts such as "lora_A.weight" by module.
        shared: tensors that all sites use.
        plain: whole tensors by name.
        bases: those of `plain` that are an adapted module's own weight or bias.
    """

    sites: Mapping[str, Mapping[str, Array]]
    shared: Mapping[str, Array]
    plain: Mapping[str, Array]
    bases: frozenset[str]


def sort_tensors(file: Path, tensors: Mapping[str, Array], method: Method) -> Sorted:
    """Sort an adapter's tensors; names with and without the adapter's own name are known.

    Raises:
        EdgeError: a tensor belongs to another method, adapters are mixed, or there is no site.
    """
    sites: dict[str, dict[str, str]] = {}
    shared: dict[str, str] = {}
    plain: dict[str, str] = {}
    adapters = set()
    for key in sorted(tensors):
        site, part, adapter = split_key(key, method)
        if site and part:
            adapters.add(adapter)
            if part in sites.setdefault(site, {}):
                raise EdgeError(
                    f"{file}: {key}: found {site}'s {part} twice, expected it once; "
                    "save one adapter with PEFT's save_pretrained"
                )
            sites[site][part] = key
        elif key.removeprefix("base_model.") in method.shared:
            shared[key.removeprefix("base_model.")] = key
        elif (once := COPIES.sub(".", key)) == key or once not in tensors:
            name = key.replace(".base_layer.", ".")
            if FOREIGN.search(name):
                raise EdgeError(
                    f"{file}: {key}: found a tensor that {method.peft_type} does not have, "
                    f"expected {', '.join(method.parts)} and whole tensors; "
                    "use the config that was saved with these weights"
                )
            plain[name] = key
    _check_sites(file, method, sites, adapters)
    return Sorted(
        {site: Picked(tensors, parts) for site, parts in sites.items()},
        Picked(tensors, shared),
        Picked(tensors, plain),
        frozenset(name for name, key in plain.items() if name != key),
    )


def _check_sites(
    file: Path, method: Method, sites: Collection[str], adapters: set[str | None]
) -> None:
    if len(adapters) > 1:
        names = ", ".join(sorted(map(str, adapters)))
        raise EdgeError(
            f"{file}: found tensors of several adapters ({names}), expected one; "
            "save one with PEFT's save_pretrained"
        )
    if not sites:
        raise EdgeError(
            f"{file}: found no tensors of {method.peft_type}, expected some named "
            f"….{method.parts[0]}; is this such an adapter?"
        )


def split_key(key: str, method: Method) -> tuple[str | None, str | None, str | None]:
    """Return module, part and the adapter's name, each where the key has it."""
    for part in method.parts:
        head, _, last = part.partition(".")
        end = rf"\.{last}" if last else r"(?:\.weight)?"
        if match := re.fullmatch(rf"(.+)\.{head}(?:\.([^.]+))??{end}", key):
            return match[1], part, match[2]
    return None, None, None


def method_of(config: Mapping[str, object], where: str) -> Method:
    """Return how the adapter's `peft_type` is read.

    Raises:
        EdgeError: names the type; it is none that merges into the weights exactly.
    """
    kind = config.get("peft_type", config.get("adapter_type"))
    if not isinstance(kind, str) or kind not in METHODS:
        raise EdgeError(
            f"{where}: peft_type: found {kind!r}, expected one of {', '.join(METHODS)}; "
            "only these can be read"
        )
    return METHODS[kind]


@dataclass(frozen=True)
class Rename:
    """Name in the model that was trained -> name in the base: one prefix less or one more."""

    drop: str = ""
    add: str = ""

    def __call__(self, name: str) -> str:
        """Return the base's name."""
        return self.add + name.removeprefix(self.drop)


def find_rename(file: Path, tensors: Iterable[str], base: Mapping[str, TensorInfo]) -> Rename:
    """Find the one prefix under which every adapted tensor is in the base.

    Raises:
        EdgeError: there is none, or several; names a tensor that is missing.
    """
    names = list(tensors)

    def missing(rename: Rename) -> list[str]:
        return [name for name in names if not {rename(name), name} & base.keys()]

    def elsewhere(rename: Rename) -> int:
        return sum(rename(name) not in base for name in names)

    heads = {name.partition(".")[0] + "." for name in names if name.count(".") > 1}
    tops = {name.partition(".")[0] + "." for name in base}
    candidates = [
        Rename(),
        *(Rename(drop=head) for head in sorted(heads)),
        *(Rename(add=top) for top in sorted(tops)),
    ]
    # A site outside the renamed part, such as a head, keeps its name: as few of them as can be.
    fewest = min(map(elsewhere, candidates))
    fitting = [r for r in candidates if not missing(r) and elsewhere(r) == fewest]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        places = " and ".join(rename(names[0]) for rename in fitting)
        raise EdgeError(
            f"{file}: {names[0].removesuffix('.weight')}: found {places} in the base, expected "
            "one of them; use a base with one copy of the weights"
        )
    odd = missing(min(candidates, key=lambda rename: len(missing(rename))))
    more = f" (and {len(odd) - 1} more of {len(names)} sites)" if len(odd) > 1 else ""
    raise EdgeError(
        f"{file}: {odd[0].removesuffix('.weight')}{more}: found no weight of this name in the "
        "base, expected one for every site; is this adapter for another base?"
    )


def tied_heads(base: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Return heads that are not in a checkpoint because they share an embedding's weight."""
    if any(name in base for name in OTHER_HEADS):
        return {}
    return {
        head: name
        for embedding, head, start in TIES
        for name in base
        if name.endswith(embedding) and head not in base
        if any(other.startswith(start) for other in base)
    }


def is_own(name: str, values: Array, base: Base | None) -> bool:
    """Say whether a whole tensor is the base's: PEFT saves embeddings beside their factors.

    Args:
        name: the base's name of it, or of a head that is tied.
        values: the adapter's.
        base: the model; None says no.
    """
    if base is None:
        return False
    name = name if name in base.tensors else tied_heads(base.tensors).get(name, name)
    known = base.tensors.get(name)
    if known is None or known.shape != values.shape or not values.ndim:
        return False
    step = max(1, CHUNK // max(1, values[0].size))
    starts = range(0, len(values), step)
    return all(np.array_equal(base.rows(name, i, i + step), values[i : i + step]) for i in starts)


def is_conv1d(base: Mapping[str, TensorInfo], configured: bool) -> bool:
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
