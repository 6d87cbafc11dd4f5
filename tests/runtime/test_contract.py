"""Exported bundles keep to what runtime/README.md promises to every runner."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import peft
import pytest
import torch
from safetensors.numpy import load_file

from edge_lra.bundle import MANIFEST, load_manifest
from edge_lra.golden import ROUNDING, SLACK
from edge_lra.pipeline import ExportRequest, export
from tests.cli.documents import validator
from tests.graph.decoders import random_model
from tests.runtime.conftest import ROOT

README = ROOT / "runtime/README.md"
BUNDLES = ("merged", "factored", "hidden", "decoder", "decoder_factored")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a language model of a few kilobytes and its adapter."""
    folder = tmp_path_factory.mktemp("made")
    random_model("llama").save_pretrained(folder / "model")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    peft.get_peft_model(random_model("llama"), config).save_pretrained(folder / "adapter")
    return folder


def export_decoder(made: Path, mode: str) -> Path:
    adapters = [("one", made / "adapter")]
    model = str(made / "model")
    # The int8 of a model this small says nothing of the format.
    return export(ExportRequest(made / f"{mode}.edge", model, adapters, mode=mode, scheme="none"))


@pytest.fixture(scope="module")
def decoder(made: Path) -> Path:
    return export_decoder(made, "merge")


@pytest.fixture(scope="module")
def decoder_factored(made: Path) -> Path:
    return export_decoder(made, "factored")


@pytest.fixture(params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def test_a_manifest_keeps_to_the_schema(bundle: Path) -> None:
    validator("manifest").validate(json.loads((bundle / MANIFEST).read_text()))


def test_the_files_listed_are_those_there(bundle: Path) -> None:
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    manifest = load_manifest(bundle)
    assert there == {MANIFEST, *manifest["files"]}
    named = [entry["file"] for entry in manifest["adapters"].values()]
    assert {*named, "golden.safetensors", "model.onnx", "model.onnx.data"} <= there


def test_the_graph_has_the_inputs_and_outputs_of_the_manifest(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    decoder = manifest["decoder"] or {"cache": [], "adapter_index": None}
    nodes = manifest["inputs"] + manifest["adapter_inputs"]
    names = [node["name"] for node in nodes] + [entry["past"] for entry in decoder["cache"]]
    names += [decoder["adapter_index"]] if decoder["adapter_index"] else []
    assert sorted(names) == sorted(node.name for node in session.get_inputs())
    outputs = [node["name"] for node in manifest["outputs"]]
    outputs += [entry["present"] for entry in decoder["cache"]]
    assert set(outputs) <= {node.name for node in session.get_outputs()}


def test_adapters_have_a_tensor_or_an_off_shape_for_every_input(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    inputs = {node["name"]: node for node in manifest["adapter_inputs"]}
    for entry in manifest["adapters"].values():
        assert entry["base"] == manifest["base_fingerprint"]
        tensors = load_file(bundle / entry["file"])
        assert tensors.keys() <= inputs.keys()
        assert all(0 in inputs[name]["off_shape"] for name in inputs.keys() - tensors.keys())
        for name, tensor in tensors.items():
            shape = inputs[name]["shape"]
            own = shape[1:] if shape[0] == "adapters" else shape
            assert tensor.dtype == inputs[name]["dtype"] and tensor.ndim == len(own)
            sizes = zip(own, tensor.shape, strict=True)
            assert all(axis in (size, str(axis)) for axis, size in sizes)


def test_a_golden_file_holds_what_the_page_says(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    tensors = load_file(bundle / "golden.safetensors")
    golden, is_decoder = manifest["golden"], bool(manifest["decoder"])
    outputs = ["logits"] if is_decoder else [node["name"] for node in manifest["outputs"]]
    expected = set()
    for case in range(golden["count"]):
        expected |= {f"{kind}.{case}.{name}" for kind in ("output", "float") for name in outputs}
        given = ["input_ids"] if is_decoder else [node["name"] for node in manifest["inputs"]]
        expected |= {f"input.{case}.{name}" for name in given}
        greedy = {f"greedy.{case}.{name}" for name in ("tokens", "margins")}
        expected |= greedy if is_decoder else set()
    assert golden["count"] == len(golden["adapters"]) > 0
    assert expected <= tensors.keys()
    kinds = {"input": np.int64, "output": np.float32, "float": np.float32}
    for name, tensor in tensors.items():
        kind = name.split(".")[0]
        wanted = kinds.get(kind) or (np.int64 if name.endswith("tokens") else np.float32)
        assert tensor.dtype == wanted, name


def test_the_page_states_the_rule_of_the_code() -> None:
    text = README.read_text()
    rule = re.search(r"allowed = (\S+) \* recorded \+ kernel_spread \* largest \+ (\S+)", text)
    assert rule and (float(rule[1]), float(rule[2])) == (SLACK, ROUNDING)


def test_the_page_s_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert links and all((README.parent / link).exists() for link in links)
