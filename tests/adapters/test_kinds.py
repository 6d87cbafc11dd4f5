from __future__ import annotations

import os
import subprocess
import sys

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
    chunks = [adapter.merge(base[i : i + 4], i) for i in range(0, len(base), 4)]
    expected = base + (update.T if transposed else update)
    np.testing.assert_allclose(np.concatenate(chunks), expected, atol=1e-12)


MERGE = """
import hashlib
import numpy as np
from edge_lra.adapters.kinds import LowRank
random = np.random.default_rng(0)
down, up = (random.standard_normal(s, dtype=np.float32) for s in ((16, 1024), (1024, 16)))
merged = LowRank(down, up, 0.5).merge(np.zeros((1024, 1024)), 0)
print(hashlib.sha256(merged.tobytes()).hexdigest())
"""


def test_a_merge_is_the_same_with_other_threads_and_on_another_processor() -> None:
    """At this width a float32 product of OpenBLAS differs by thread count."""
    found = set()
    for threads, other in (("1", {}), ("2", {}), ("1", {"OPENBLAS_CORETYPE": "Sandybridge"})):
        variables = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        done = subprocess.run(
            [sys.executable, "-c", MERGE],
            env=os.environ | variables | other,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1
