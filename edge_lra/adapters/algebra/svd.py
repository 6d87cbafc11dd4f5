"""Truncated singular value decompositions of updates and of weights' differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edge_lra.adapters.kinds import LowRank
from edge_lra.adapters.saved import Array
from edge_lra.blas import one_thread

OVERSAMPLE = 16
POWER_ITERATIONS = 2
WIDE = 128  # columns from which one QR is quicker than one of blocks
Chunks = Callable[[], Iterator[tuple[int, Array]]]  # yields (first row, rows), anew each call


@dataclass(frozen=True)
class Spectrum:
    """The singular values of a matrix D, or of D W where its inputs are weighted.

    Attributes:
        values: (r,) singular values, descending.
        energy: sum of all squared singular values, those beyond r included.
    """

    values: Array
    energy: float

    def kept_energy(self, rank: int) -> float:
        """Return the share of the energy that the first `rank` values hold."""
        return float((self.values[:rank] ** 2).sum() / self.energy) if self.energy else 1.0

    def error(self, rank: int) -> float:
        """Return ||(D - D_rank) W|| / ||D W|| (Eckart and Young 1936)."""
        return float(np.sqrt(max(0.0, 1.0 - self.kept_energy(rank))))

    def rank_for(self, energy: float) -> int:
        """Return the smallest rank that keeps a share of the energy; at least 1."""
        if not self.energy:
            return 1
        kept = np.cumsum(self.values**2) / self.energy
        reached = np.flatnonzero(kept >= energy - 1e-12)
        return int(reached[0]) + 1 if len(reached) else len(self.values)

    def effective_rank(self) -> float:
        """Return exp of the entropy of the singular values' shares (Roy and Vetterli 2007)."""
        shares = self.values[self.values > 0] / max(self.values.sum(), 1e-300)
        return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


@dataclass(frozen=True)
class Decomposition(Spectrum):
    """D = left diag(values) right.

    Attributes:
        left: (out, r) orthonormal columns.
        right: (r, in); its rows are orthonormal before a weighting is divided out.
    """

    left: Array
    right: Array

    def truncate(self, rank: int) -> LowRank:
        """Return the first `rank` components, each factor with the root of the values."""
        root = np.sqrt(self.values[:rank])
        down = (root[:, None] * self.right[:rank]).astype(np.float32)
        up = (self.left[:, :rank] * root).astype(np.float32)
        return LowRank(down, up, 1.0)


def decompose(
    update: LowRank, root: Array | None = None, inverse: Array | None = None
) -> Decomposition:
    """Decompose scale * up @ down by QR of both factors and an SVD of the small core.

    Equals the SVD of the product, which is never formed.

    Args:
        update: the factors.
        root: (in,) or (in, in): the root of the inputs' second moments. The error is then that
            of the outputs, ||(D - D_k) X||, rather than of the weights.
        inverse: the root's inverse.
    """
    with one_thread():
        return _decompose(update, root, inverse)


def _decompose(update: LowRank, root: Array | None, inverse: Array | None) -> Decomposition:
    down, up = update.down.astype(np.float64), update.up.astype(np.float64) * update.scale
    if root is not None:
        down = down * root if root.ndim == 1 else down @ root
    left_basis, left_core = tall_qr(up)
    right_basis, right_core = tall_qr(down.T)
    left, values, right = np.linalg.svd(left_core @ right_core.T, full_matrices=False)
    rows = right @ right_basis.T
    if inverse is not None:
        rows = rows * inverse if inverse.ndim == 1 else rows @ inverse
    return Decomposition(values, float((values**2).sum()), left_basis @ left, rows)


def tall_qr(matrix: Array) -> tuple[Array, Array]:
    """Return Q (rows, k) and R (k, k) of a matrix with many more rows than its k columns.

    Blocks of rows first, then their R's (TSQR; Demmel et al. 2012, section 3): LAPACK's own QR of
    such a matrix runs as threaded products of a column at a time, which wait for each other (11008
    x 64: 0.19 CPU-s against 0.04, and far more where other programs run).

    Args:
        matrix: (rows, k) float64.
    """
    rows, columns = matrix.shape
    block = 2 * columns
    if rows <= block or columns > WIDE:
        q, r = np.linalg.qr(matrix)
        return q, r
    count = -(-rows // block)
    padded = np.zeros((count * block, columns))
    padded[:rows] = matrix
    parts, cores = np.linalg.qr(padded.reshape(count, block, columns))
    basis, core = tall_qr(cores.reshape(-1, columns))
    whole = parts @ basis.reshape(count, columns, columns)
    return whole.reshape(-1, columns)[:rows], core


def decompose_matrix(matrix: Array) -> Decomposition:
    """Return the full SVD of a matrix (out, in)."""
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return Decomposition(values, float((values**2).sum()), left, right)


def squared_norm(rows: Array) -> float:
    """Return ||rows||^2 of a float32 matrix.

    Row by row, and the rows in float64: one float32 dot product of 40 M values is 3e-4 off.
    """
    return float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))


def decompose_large(
    chunks: Chunks, shape: tuple[int, int], rank: int, seed: int = 0
) -> Decomposition:
    """Decompose a matrix that comes in row chunks, to a rank much smaller than its sides.

    Randomized range finder with power iterations (Halko, Martinsson and Tropp 2011, algorithms
    4.4 and 5.1): the matrix is read 2 + 2 POWER_ITERATIONS times and never held.

    Args:
        chunks: yields (first row, rows) of a matrix (out, in).
        shape: of the whole matrix.
        rank: how many singular values are wanted.
        seed: of the random test matrix.
    """
    out, width = shape
    size = min(rank + OVERSAMPLE, out, width)
    test = np.random.default_rng(seed).standard_normal((width, size), np.float32)
    energy = 0.0
    sample = np.empty((out, size), np.float32)
    for start, rows in chunks():
        sample[start : start + len(rows)] = rows @ test
        energy += squared_norm(rows)
    for _ in range(POWER_ITERATIONS):
        basis = np.linalg.qr(sample)[0]
        turned = np.linalg.qr(_transposed_product(chunks, basis, width))[0]
        for start, rows in chunks():
            sample[start : start + len(rows)] = rows @ turned
    basis = np.linalg.qr(sample)[0]
    core = _transposed_product(chunks, basis, width).T
    left, values, right = np.linalg.svd(core.astype(np.float64), full_matrices=False)
    kept = min(rank, len(values))
    return Decomposition(values[:kept], energy, basis @ left[:, :kept], right[:kept])


def _transposed_product(chunks: Chunks, basis: Array, width: int) -> Array:
    """Return matrix^T basis, (in, size)."""
    total = np.zeros((width, basis.shape[1]), np.float32)
    for start, rows in chunks():
        total += rows.T @ basis[start : start + len(rows)]
    return total
