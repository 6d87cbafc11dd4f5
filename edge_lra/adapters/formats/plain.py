"""A LoRA's sites as a writer of another format needs them; what it cannot say is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_lra.adapters.formats.format import Base
from edge_lra.adapters.kinds import LORA, LowRank, Site
from edge_lra.adapters.kinds.low_rank import Dora
from edge_lra.adapters.names import Sorted, is_own, method_of, sort_tensors
from edge_lra.adapters.saved import Array, Saved
from edge_lra.errors import EdgeError


@dataclass(frozen=True)
class PlainSite:
    """One site's factors.

    Attributes:
        down: (rank, in).
        up: (out, rank).
        scale: alpha / rank.
        embedding: the update is of an embedding's table and stored as its transpose.
        magnitude: (out,), DoRA's; None without it.
    """

    down: Array
    up: Array
    scale: float
    embedding: bool = False
    magnitude: Array | None = None

    @property
    def rank(self) -> int:
        """The number of components."""
        return len(self.down)

    def folded(self, scale: float = 1.0) -> Array:
        """Return the up factor that goes with another scale than the site's own."""
        return self.up if scale == self.scale else (self.up * (self.scale / scale)).astype("f4")


def plain_sites(
    saved: Saved, title: str, base: Base | None, allowed: Collection[str] = ()
) -> dict[str, PlainSite]:
    """Return the factors by module.

    Args:
        saved: an adapter in PEFT's terms.
        title: the format that is written, for messages.
        base: the model it is for; whole tensors that equal its own are no change.
        allowed: which of "DoRA" and "embeddings" it can say.

    Raises:
        EdgeError: names what the format cannot say.
    """
    where = str(saved.config_file)
    method = method_of(saved.config, where)
    if method is not LORA:
        raise refuse(saved, method.peft_type, title)
    LORA.rules.check(saved.config, where)
    options = LORA.parse(saved.config, where)
    tensors = sort_tensors(saved.file, saved.tensors, LORA)
    for option in ("lora_bias", "target_parameters", "trainable_token_indices"):
        if saved.config.get(option):
            raise refuse(saved, option, title)
    if options.dora and "DoRA" not in allowed:
        raise refuse(saved, "use_dora", title)
    if whole := [name for name, values in tensors.plain.items() if not is_own(name, values, base)]:
        names = ", ".join(sorted(whole)[:3])
        raise refuse(saved, f"whole tensors ({names})", title)
    LORA.check(options, tensors.sites, where)
    return {
        module: _site(saved, module, tensors, options, title, allowed) for module in tensors.sites
    }


def _site(
    saved: Saved,
    module: str,
    tensors: Sorted,
    options: Any,
    title: str,
    allowed: Collection[str],
) -> PlainSite:
    parts = tensors.sites[module]
    if any(values.ndim > 2 for values in parts.values()):
        raise refuse(saved, f"{module}, a convolution", title)
    site = Site(f"{saved.file}: {module}", module, parts, None, False, False)
    update = LORA.read(site, options, {})["weight"]
    magnitude = None
    if isinstance(update, Dora):
        magnitude = update.magnitude.astype(np.float32)
        update = update.low_rank
    assert isinstance(update, LowRank)
    embedding = update.transposed
    if embedding and ("embeddings" not in allowed or magnitude is not None):
        dora = "" if magnitude is None else " with DoRA"
        raise refuse(saved, f"{module}, an embedding{dora}", title)
    return PlainSite(update.down, update.up, update.scale, embedding, magnitude)


def refuse(saved: Saved, what: str, title: str) -> EdgeError:
    """Return the error for what a format cannot say."""
    return EdgeError(
        f"{saved.path}: found {what}, which {title} cannot say, expected low-rank factors it can; "
        "keep it in PEFT's format"
    )


def usual(values: Mapping[str, float]) -> float:
    """Return the commonest value; of equals, the first by name."""
    return Counter(values[key] for key in sorted(values)).most_common(1)[0][0]
