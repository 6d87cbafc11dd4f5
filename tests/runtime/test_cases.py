"""The committed integer cases are what their script writes, and onnxruntime answers them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file

import edge_lra
from edge_lra.quantize.pairsafe import PAIR_LIMIT
from tests.runtime.cases import MODEL, TENSORS, weight_of, write_cases

CASES = Path(edge_lra.__file__).parent.parent / "runtime/cases"


@pytest.mark.parametrize("name", [MODEL, TENSORS])
def test_the_committed_cases_are_what_their_script_writes(name: str, tmp_path: Path) -> None:
    write_cases(tmp_path)
    assert (CASES / name).read_bytes() == (tmp_path / name).read_bytes()


def test_onnxruntime_gives_every_integer() -> None:
    tensors = load_file(CASES / TENSORS)
    session = onnxruntime.InferenceSession(CASES / MODEL, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = {node.name: tensors[node.name] for node in session.get_inputs()}
    for name, found in zip(names, session.run(names, feeds), strict=True):
        np.testing.assert_array_equal(found, tensors[name], name)
    assert len(names) * 2 == len(tensors)


def test_pairs_reach_the_limit_and_keep_it() -> None:
    weight = weight_of(65, 33)[:, :64].astype(int)
    pairs = np.where(
        weight[:, 0::2] * weight[:, 1::2] > 0, abs(weight[:, 0::2] + weight[:, 1::2]), 0
    )
    assert pairs.max() == PAIR_LIMIT
