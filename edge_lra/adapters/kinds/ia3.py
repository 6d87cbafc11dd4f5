"""IA3: inputs or outputs of a layer scaled one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_lra.adapters.kinds.method import Method, Site, Updates
from edge_lra.adapters.kinds.rules import Rules, wrong
from edge_lra.adapters.kinds.update import Array


@dataclass(frozen=True)
class Scaling:
    """W' = W scaled along one stored axis (IA3, Liu et al. 2022, section 3.3)."""

    scale: Array  # (n,)
    axis: int = 0  # 0: a factor a row, 1: a factor a column
    additive: bool = False
    rowwise: bool = True

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Scale the rows, or their columns."""
        scale = self.scale.astype(np.float64)
        if self.axis == 0:
            return rows * scale[start : start + len(rows)].reshape(-1, *[1] * (rows.ndim - 1))
        return rows * scale.reshape(-1, *[1] * (rows.ndim - 2))


@dataclass(frozen=True)
class Options:
    """Which modules scale their inputs: names they end in, or one pattern."""

    feedforward: str | tuple[str, ...]

    def scales_inputs(self, module: str) -> bool:
        """Say what a module's vector is for, as PEFT's IA3 does."""
        if isinstance(self.feedforward, str):
            return re.fullmatch(self.feedforward, module) is not None
        return any(module.endswith(name) for name in self.feedforward)


def parse(config: Mapping[str, Any], where: str) -> Options:
    """Validate an IA3Config."""
    found = config.get("feedforward_modules") or []
    if isinstance(found, str):
        try:
            re.compile(found)
        except re.error:
            raise wrong(where, "feedforward_modules", found, "a regular expression") from None
        return Options(found)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise wrong(where, "feedforward_modules", found, "names or a pattern")
    return Options(tuple(found))


def read(site: Site, options: Options, _: Mapping[str, Array]) -> Updates:
    """Return a site's scaling; a vector on the outputs scales the bias too."""
    (vector,) = site.take("ia3_l")
    inputs = options.scales_inputs(site.module)
    scale = vector.reshape(-1)
    if site.shape is not None:
        width = site.shape[0] if site.transposed else site.shape[1]
        site.fits((scale.size,), (width if inputs else site.outputs(),))
    updates: Updates = {"weight": Scaling(scale, axis=int(inputs != site.transposed))}
    if site.has_bias and not inputs:
        updates["bias"] = Scaling(scale)
    return updates


IA3 = Method(
    "IA3",
    Rules(frozenset({"fan_in_fan_out", "feedforward_modules"}), frozenset({"init_ia3_weights"})),
    ("ia3_l",),
    parse,
    read,
)
