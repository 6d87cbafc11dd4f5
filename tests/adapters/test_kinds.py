from __future__ import annotations

import numpy as np
import pytest

from edge_lra.adapters import LowRank


@pytest.mark.parametrize("transposed", [False, True])
def test_merging_in_chunks_gives_the_whole_update(transposed: bool) -> None:
    random = np.random.default_rng(0)
    down, up = random.normal(size=(3, 6)), random.normal(size=(10, 3))
    base = random.normal(size=(6, 10) if transposed else (10, 6))
    adapter = LowRank(down, up, 0.5, transposed)
    update = 0.5 * up @ down
    chunks = [adapter.merge_rows(base[i : i + 4], i) for i in range(0, len(base), 4)]
    expected = base + (update.T if transposed else update)
    np.testing.assert_allclose(np.concatenate(chunks), expected, atol=1e-12)
