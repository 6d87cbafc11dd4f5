"""A bundle's integer products, run on this processor and on one that saturates."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx.external_data_helper import ExternalDataInfo

import edge_lra
from edge_lra.agent.host import processor
from edge_lra.bundle import load_manifest
from edge_lra.cli import main
from edge_lra.errors import EdgeError, GateError
from edge_lra.packing import write_manifest
from edge_lra.pipeline import ExportRequest, export
from edge_lra.products import run
from edge_lra.products.run import NAME, check_products, run_products
from edge_lra.products.write import write_products
from tests.cli.documents import document
from tests.graph.decoders import random_model

ROOT = Path(edge_lra.__file__).parent.parent
HASWELL = (str(ROOT / ".cache/qemu/qemu-x86_64-static"), "-cpu", "Haswell-noTSX")  # no VNNI
QUERY = "encoder.layer.0.attention.self.query.weight.int8"
PRODUCTS = 14  # 2 layers of q, k, v, output, up, and down in two groups


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_made: Path) -> Path:
    return export(
        ExportRequest(
            tmp_path_factory.mktemp("made") / "t.edge",
            model=str(tiny_made / "model"),
            adapters=[("one", tiny_made / "adapter")],
            verify=False,
        )
    )


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "t.edge"))


def change(bundle: Path, name: str, rule: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write other integers in place of a weight's (in, out)."""
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    place = ExternalDataInfo(tensor)
    with (bundle / "model.onnx.data").open("r+b") as file:
        file.seek(place.offset)
        values = np.frombuffer(file.read(place.length), np.int8).reshape(tuple(tensor.dims))
        file.seek(place.offset)
        file.write(rule(values).astype(np.int8).tobytes())


def seal_again(bundle: Path, **entries: Any) -> None:
    write_manifest(bundle, load_manifest(bundle) | entries)


def verify(bundle: Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["verify", str(bundle)])
    return result.exit_code, result.stdout + result.stderr


@pytest.mark.parametrize("threads", [1, 2, None])
def test_the_products_of_an_encoder_are_exact_here(made: Path, threads: int | None) -> None:
    found = run_products(made, load_manifest(made), threads)
    assert found and (found.count, found.unequal) == (PRODUCTS, ())


def test_the_products_of_a_decoder_are_exact_here(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path / "model")
    model = str(tmp_path / "model")
    bundle = export(ExportRequest(tmp_path / "d.edge", model, [], verify=False))
    found = run_products(bundle, load_manifest(bundle))
    # Weights that read one value are one product; the head's is that of the last token as well.
    assert found and (found.count, found.unequal) == (2 * 4 + 1, ())


def test_one_changed_integer_is_found_and_its_weight_named(bundle: Path) -> None:
    def rule(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[-1, -1] += 1
        return changed

    change(bundle, QUERY, rule)
    found = run_products(bundle, load_manifest(bundle))
    assert found and found.unequal == (QUERY,)


def test_a_few_of_many_weights_are_named(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    names = [entry["weight"] for entry in manifest["products"]]
    for name in names:
        change(bundle, name, lambda values: -values[::-1])
    line = f"found 0 of {PRODUCTS} int8 products exact on .*{names[2]} and {PRODUCTS - 3} more;"
    with pytest.raises(GateError, match=line):
        check_products(bundle, manifest)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="only x86 saturates")
def test_a_processor_that_saturates_is_told_from_one_that_does_not(bundle: Path) -> None:
    command = [*HASWELL, sys.executable, "-m", "edge_lra", "verify", str(bundle)]

    def verify_there() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert f"{PRODUCTS} of {PRODUCTS} exact" in verify_there().stdout
    # Plain int8 takes a channel's whole range: two products of 127 * 255 pass 16 bits.
    change(bundle, QUERY, lambda values: np.full_like(values, 127))
    seal_again(bundle, products=write_products(bundle))
    code, text = verify(bundle)
    done = verify_there()
    assert done.returncode == 3
    assert f"found {PRODUCTS - 1} of {PRODUCTS} int8 products exact" in done.stderr
    assert f"not those of {QUERY};" in done.stderr  # qemu warns before it
    saturates_here = "vnni" not in Path("/proc/cpuinfo").read_text()
    assert (code == 3) == saturates_here, text


# ---- what verify says ----------------------------------------------------------------------


def test_verify_names_the_processor(made: Path) -> None:
    code, text = verify(made)
    assert code == 0
    assert f"int8 products: {PRODUCTS} of {PRODUCTS} exact on " in text and processor() in text
    found = document("verify", str(made))["products"]
    assert found == {"processor": processor(), "count": PRODUCTS, "exact": PRODUCTS}


def test_verify_fails_where_a_product_is_not_exact(bundle: Path) -> None:
    change(bundle, QUERY, lambda values: -values)
    seal_again(bundle)
    code, text = verify(bundle)
    assert code == 3
    assert text.startswith(f"Error: {bundle}: found {PRODUCTS - 1} of {PRODUCTS} int8 products")
    assert text.count("\n") == 1


def test_an_older_bundle_passes_and_is_told_from_one_without_products(
    bundle: Path, tmp_path: Path, tiny_made: Path
) -> None:
    manifest = {k: v for k, v in load_manifest(bundle).items() if k != "products"}
    (bundle / NAME).unlink()
    write_manifest(bundle, manifest)
    code, text = verify(bundle)
    assert code == 0 and "their exact integers are not carried; export it again" in text
    assert document("verify", str(bundle))["products"] is None
    model = str(tiny_made / "model")
    plain = export(ExportRequest(tmp_path / "f.edge", model, [], scheme="none", verify=False))
    assert not (plain / NAME).exists()
    code, text = verify(plain)
    assert code == 0 and "int8 products: none, nothing can saturate" in text
    assert document("verify", str(plain))["products"]["count"] == 0


# ---- what is no graph of products ----------------------------------------------------------


def test_a_graph_of_other_products_than_listed_is_refused(bundle: Path) -> None:
    listed = load_manifest(bundle)["products"]
    seal_again(bundle, products=listed[:-1])
    with pytest.raises(EdgeError, match=f"found {PRODUCTS} products, expected {PRODUCTS - 1}"):
        run_products(bundle, load_manifest(bundle))


def test_a_graph_that_reads_other_files_is_refused(bundle: Path) -> None:
    data = (bundle / NAME).read_bytes()
    (bundle / NAME).write_bytes(data.replace(b"model.onnx.data", b"../secret/file_"))
    seal_again(bundle)
    with pytest.raises(EdgeError, match=r"found external data in '\.\./secret/file_'"):
        run_products(bundle, load_manifest(bundle))


@pytest.mark.parametrize("entry", [{"weight": "x"}, "x", {"weight": 1, "sha256": "x"}])
def test_an_ill_formed_entry_is_refused(bundle: Path, entry: Any) -> None:
    seal_again(bundle, products=[entry])
    with pytest.raises(EdgeError, match='found an ill-formed "products"'):
        run_products(bundle, load_manifest(bundle))


def test_a_graph_that_takes_other_inputs_is_one_line(bundle: Path) -> None:
    shutil.copyfile(bundle / "model.onnx", bundle / NAME)
    seal_again(bundle)
    with pytest.raises(EdgeError, match="the integer products cannot be run: ") as caught:
        run_products(bundle, load_manifest(bundle))
    assert "\n" not in str(caught.value)


def test_running_needs_neither_onnx_nor_torch(made: Path) -> None:
    program = (
        "import sys, json; from pathlib import Path; from edge_lra.bundle import load_manifest;"
        f"from {run.__name__} import run_products; folder = Path(sys.argv[1]);"
        "found = run_products(folder, load_manifest(folder));"
        "heavy = [m for m in ('onnx', 'onnx_ir', 'torch') if m in sys.modules];"
        "print(json.dumps([found.count, heavy]))"
    )
    command = [sys.executable, "-c", program, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == [PRODUCTS, []]
