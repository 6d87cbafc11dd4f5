"""OFT and BOFT: the inputs of a layer rotated in blocks (PEFT's oft and boft)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_lra.adapters.kinds.method import Method, Site, Updates
from edge_lra.adapters.kinds.rules import Rules, flag, number, positive
from edge_lra.adapters.kinds.update import Array
from edge_lra.errors import EdgeError


@dataclass(frozen=True)
class Rotation:
    """W' = s W R^T, R block-diagonal and orthogonal (OFT, Qiu et al. 2023, section 3.2).

    An embedding's rows are rotated themselves: W' = W R.
    """

    blocks: Array  # (blocks, size, size) float64
    scale: Array | None = None  # (out,) float64
    embedding: bool = False
    rowwise: bool = True
    additive: bool = False

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Rotate each row's blocks."""
        count, size, _ = self.blocks.shape
        turn = self.blocks if self.embedding else self.blocks.transpose(0, 2, 1)
        split = rows.reshape(len(rows), count, size)
        # No BLAS in an einsum of three indices: the same on every CPU.
        turned = np.einsum("nbk,bkc->nbc", split, turn, optimize=False).reshape(rows.shape)
        if self.scale is not None:
            part = self.scale[start : start + len(rows)]
            turned = turned * part.reshape(-1, *[1] * (rows.ndim - 1))
        result: Array = turned
        return result


def skew_symmetric(upper: Array, size: int) -> Array:
    """Return (blocks, size, size) from the elements above the diagonal, row by row.

    Args:
        upper: (blocks, size (size - 1) / 2).
        size: of a block.
    """
    matrix = np.zeros((len(upper), size, size))
    rows, columns = np.triu_indices(size, 1)
    matrix[:, rows, columns] = upper
    return matrix - matrix.transpose(0, 2, 1)


def cayley(skew: Array) -> Array:
    """Return (I - Q)(I + Q)^-1 for each skew-symmetric Q (OFT, eq. 3)."""
    identity = np.eye(skew.shape[-1])
    left, right = (identity + skew).transpose(0, 2, 1), (identity - skew).transpose(0, 2, 1)
    solved: Array = np.linalg.solve(left, right).transpose(0, 2, 1)
    return solved


def cayley_neumann(skew: Array, terms: int) -> Array:
    """Return PEFT's truncated Neumann series of the Cayley transform: I + 2Q + 2Q^2 + .. + Q^n."""
    result = np.broadcast_to(np.eye(skew.shape[-1]), skew.shape).copy()
    if terms <= 1:
        return result
    result += 2 * skew
    if terms > 2:
        power = skew @ skew
        result += 2 * power
        for _ in range(3, terms - 1):
            power = power @ skew
            result += 2 * power
        result += power @ skew
    return result


def project(skew: Array, epsilon: float) -> Array:
    """Shorten each block to PEFT's bound of constrained OFT, epsilon / sqrt(blocks)."""
    bound = epsilon / np.sqrt(len(skew))
    norms = np.sqrt((skew**2).sum(axis=(1, 2), keepdims=True))
    return np.where(norms <= bound, skew, bound * skew / np.maximum(norms, 1e-300))


@dataclass(frozen=True)
class OftOptions:
    """How OFT's blocks become rotations; `bound` is that of constrained OFT, None without."""

    bound: float | None
    terms: int | None  # of the Neumann series, None for the exact transform
    share: bool


def parse_oft(config: Mapping[str, Any], where: str) -> OftOptions:
    """Validate an OFTConfig."""
    neumann = config.get("use_cayley_neumann", True) is not False
    terms = positive(where, "num_cayley_neumann_terms", config.get("num_cayley_neumann_terms", 5))
    epsilon = number(where, "eps", config.get("eps", 6e-5))
    return OftOptions(
        epsilon if flag(config, where, "coft") else None,
        terms if neumann else None,
        flag(config, where, "block_share"),
    )


def read_oft(site: Site, options: OftOptions, _: Mapping[str, Array]) -> Updates:
    """Return a site's rotation of its inputs, or of an embedding's rows."""
    site.refuse_transposed("OFT")
    embedding = "oft_embedding_R.weight" in site.parts
    (upper,) = site.take("oft_embedding_R.weight" if embedding else "oft_R.weight")
    if site.shape is not None and math.prod(site.shape[2:]) > 1:
        raise EdgeError(
            f"{site.where}: found OFT on a convolution's kernel {site.shape}, expected a linear "
            "layer; PEFT trains another function than the one it merges, train it with BOFT or LoRA"
        )
    size = (1 + math.isqrt(1 + 8 * upper.shape[-1])) // 2  # n = size (size - 1) / 2
    skew = skew_symmetric(upper.astype(np.float64), size)
    if options.bound is not None:
        skew = project(skew, options.bound)
    blocks = cayley(skew) if options.terms is None else cayley_neumann(skew, options.terms)
    return {"weight": Rotation(_spread(site, blocks, options.share), embedding=embedding)}


def _spread(site: Site, blocks: Array, share: bool) -> Array:
    """Repeat a shared block over the site's inputs; check that the blocks cover them."""
    count, size, _ = blocks.shape
    if site.shape is None:
        return blocks
    inputs = math.prod(site.shape[1:])
    if share and count == 1:
        blocks = np.repeat(blocks, inputs // size, axis=0)
    site.fits((site.shape[0], len(blocks) * size), (site.shape[0], inputs))
    return blocks


def parse_boft(config: Mapping[str, Any], where: str) -> None:
    """Accept a BOFTConfig: its sizes show in the saved tensors."""


def read_boft(site: Site, _: None, __: Mapping[str, Array]) -> Updates:
    """Return a site's rotation and the scale of its outputs.

    PEFT has one butterfly factor only where its CUDA extension is not compiled; more of them
    cannot be held against it here and are refused.
    """
    site.refuse_transposed("BOFT")
    blocks, scale = site.take("boft_R", "boft_s")
    if blocks.ndim != 4 or len(blocks) != 1:
        raise EdgeError(
            f"{site.where}: boft_n_butterfly_factor: found {len(blocks)} factors, expected 1; "
            "train with one"
        )
    data = blocks[0].astype(np.float64)
    rotation = cayley(0.5 * (data - data.transpose(0, 2, 1)))
    spread = _spread(site, rotation, share=False)
    return {"weight": Rotation(spread, scale.reshape(-1).astype(np.float64))}


OFT = Method(
    "OFT",
    Rules(
        frozenset(
            {
                "bias",
                "block_share",
                "coft",
                "eps",
                "num_cayley_neumann_terms",
                "use_cayley_neumann",
            }
        ),
        frozenset({"fan_in_fan_out", "module_dropout", "oft_block_size", "r"}),
    ),
    ("oft_R.weight", "oft_embedding_R.weight"),
    parse_oft,
    read_oft,
)
BOFT = Method(
    "BOFT",
    Rules(
        frozenset({"bias", "boft_n_butterfly_factor"}),
        frozenset({"boft_block_num", "boft_block_size", "boft_dropout", "fan_in_fan_out"}),
    ),
    ("boft_R", "boft_s"),
    parse_boft,
    read_boft,
)
