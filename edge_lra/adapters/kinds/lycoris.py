"""LoHa and LoKr: updates that are products of products (LyCORIS; PEFT's loha and lokr)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_lra.adapters.kinds.method import Method, Site, Sites, Updates
from edge_lra.adapters.kinds.rules import Rules, Scale, read_scale, warn_unmatched
from edge_lra.adapters.kinds.update import Array, Factors, product
from edge_lra.errors import EdgeError


@dataclass(frozen=True)
class Hadamard:
    """W' = W + scale * (a1 b1) * (a2 b2), elementwise (FedPara, Hyeon-Woo et al. 2022, eq. 1).

    A convolution's kernels come with cores t1, t2 (FedPara, proposition 3).
    """

    parts: Mapping[str, Array]  # w1_a, w1_b, w2_a, w2_b and for convolutions t1, t2
    scale: float
    rowwise: bool = True
    additive: bool = True

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Add the update's rows."""
        stop = start + len(rows)
        if "t1" in self.parts:
            delta = self._kernel("1", start, stop) * self._kernel("2", start, stop)
        else:
            delta = self._half("1", start, stop) * self._half("2", start, stop)
        return rows + self.scale * delta.reshape(rows.shape)

    def factors(self) -> Factors:
        """Return factors of rank r^2: the rows of b1 and b2 multiplied, each with each."""
        a1, b1, a2, b2 = (
            self.parts[k].astype(np.float64) for k in ("w1_a", "w1_b", "w2_a", "w2_b")
        )
        down = (b1[:, None, :] * b2[None, :, :]).reshape(-1, b1.shape[1])
        up = (a1[:, :, None] * a2[:, None, :]).reshape(len(a1), -1)
        return Factors(down, up * self.scale)

    def _half(self, which: str, start: int, stop: int) -> Array:
        return product(self.parts[f"w{which}_a"][start:stop], self.parts[f"w{which}_b"])

    def _kernel(self, which: str, start: int, stop: int) -> Array:
        left = self.parts[f"w{which}_a"][:, start:stop].astype(np.float64)
        return _tucker(self.parts[f"t{which}"], left, self.parts[f"w{which}_b"])


def _tucker(core: Array, left: Array, right: Array) -> Array:
    """Return a kernel (out, in, k1, k2) from a core (r, r, k1, k2), (r, out) and (r, in)."""
    wide = np.einsum("ijkl,jr->irkl", core.astype(np.float64), right.astype(np.float64))
    kernel: Array = np.einsum("irkl,ip->prkl", wide, left.astype(np.float64))
    return kernel


@dataclass(frozen=True)
class Kronecker:
    """W' = W + scale * (w1 kron w2) (LoKr; Yeh et al. 2023, section 3)."""

    parts: Mapping[str, Array]  # w1 or w1_a, w1_b; w2 or w2_a, w2_b, or these with t2
    scale: float
    rowwise: bool = False
    additive: bool = True

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Add the update to the whole weight."""
        left, right = self._factor("w1"), self._factor("w2")
        if right.ndim == 4:
            left = left[:, :, None, None]
        merged: Array = rows + self.scale * np.kron(left, right).reshape(rows.shape)
        return merged

    def factor_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of w1 or w2."""
        return self._factor(name).shape

    def _factor(self, name: str) -> Array:
        if name in self.parts:
            return self.parts[name].astype(np.float64)
        left, right = self.parts[f"{name}_a"], self.parts[f"{name}_b"]
        if name == "w2" and "t2" in self.parts:
            return _tucker(self.parts["t2"], left, right)
        return product(left, right)


RANKED = frozenset({"alpha", "alpha_pattern", "r", "rank_pattern"})
DROPOUTS = frozenset({"module_dropout", "rank_dropout"})


def parse(config: Mapping[str, Any], where: str) -> Scale:
    """Validate rank and alpha; how a kernel is decomposed shows in the saved tensors."""
    return read_scale(config, where, "alpha")


def read_loha(site: Site, scale: Scale, _: Mapping[str, Array]) -> Updates:
    """Return a site's Hadamard update."""
    parts = _parts(site, "hada_")
    for half in ("1", "2"):
        if {f"w{half}_a", f"w{half}_b"} - parts.keys() or ("t1" in parts) != ("t2" in parts):
            site.take(*(f"hada_w{half}_{letter}" for letter in "ab"), "hada_t1", "hada_t2")
    _check_rank(site, len(parts["w1_b"]), scale)
    if "t1" in parts:
        found = (parts["w1_a"].shape[1], parts["w1_b"].shape[1], *parts["t1"].shape[2:])
    else:
        found = (len(parts["w1_a"]), parts["w1_b"].shape[1])
    _check_size(site, math.prod(found), found)
    return {"weight": Hadamard(parts, scale.site_scale(site.module))}


def read_lokr(site: Site, scale: Scale, _: Mapping[str, Array]) -> Updates:
    """Return a site's Kronecker update."""
    parts = _parts(site, "lokr_")
    for name in ("w1", "w2"):
        if name not in parts and {f"{name}_a", f"{name}_b"} - parts.keys():
            site.take(f"lokr_{name}_a", f"lokr_{name}_b")
    for name in ("w1_b", "w2_b"):
        if name in parts:
            _check_rank(site, len(parts[name]), scale)
    update = Kronecker(parts, scale.site_scale(site.module))
    sizes = [update.factor_shape(name) for name in ("w1", "w2")]
    _check_size(site, math.prod(map(math.prod, sizes)), (*sizes[0], *sizes[1]))
    return {"weight": update}


def check(scale: Scale, sites: Sites, where: str) -> None:
    """Name patterns that match nothing."""
    warn_unmatched(scale, sites, where)


def _parts(site: Site, prefix: str) -> dict[str, Array]:
    site.refuse_transposed("LoHa or LoKr")
    return {name.removeprefix(prefix): values for name, values in site.parts.items()}


def _check_rank(site: Site, found: int, scale: Scale) -> None:
    wanted = scale.site_rank(site.module)
    if found != wanted:
        raise EdgeError(
            f"{site.where}: found rank {found}, expected {wanted} by adapter_config.json; "
            "use the config that was saved with these weights"
        )


def _check_size(site: Site, size: int, found: tuple[int, ...]) -> None:
    if site.shape is not None and size != math.prod(site.shape):
        site.fits(found, site.shape)


LOHA = Method(
    "LOHA",
    Rules(RANKED, DROPOUTS | {"use_effective_conv2d"}),
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    parse,
    read_loha,
    check=check,
)
LOKR = Method(
    "LOKR",
    Rules(
        RANKED,
        DROPOUTS
        | {"decompose_both", "decompose_factor", "rank_dropout_scale", "use_effective_conv2d"},
    ),
    ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    parse,
    read_lokr,
    check=check,
)
