"""A bundle whose graph is in onnxruntime's own format, for a small build of onnxruntime."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def

from edge_lra.agent.layers import read_nodes
from edge_lra.bundle import MANIFEST, describe_files, load_manifest, seal
from edge_lra.errors import EdgeError
from edge_lra.products.run import NAME as PRODUCTS
from edge_lra.runner.external import DATA, GRAPH, ORT_GRAPH, model_path
from edge_lra.runner.memory import shared_bytes, unshared

GENAI = "genai_config.json"  # names model.onnx; onnxruntime-genai reads no other format
HOSTS = ("edge-lra", "onnxruntime")  # of a bundle's, those that read the format
LARGEST = 2**31 - 2**20  # bytes: the format counts in 32 bits
# Operators that optimizing adds and that onnxruntime 1.20 has: with others the bundle needs the
# release that converted it.
FUSED = frozenset(
    {
        *("BiasGelu", "DequantizeLinear", "DynamicQuantizeMatMul", "FastGelu", "FusedConv"),
        *("FusedGemm", "FusedMatMul", "Gelu", "MatMulIntegerToFloat", "MatMulNBits", "QGemm"),
        *("MultiHeadAttention", "NhwcMaxPool", "QLinearAdd", "QLinearAveragePool"),
        *("QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul"),
        *("QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QuantizeLinear", "QuickGelu"),
        *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
    }
)


@dataclass(frozen=True)
class Converted:
    """A bundle in onnxruntime's format.

    Attributes:
        folder: the bundle.
        manifest: its manifest.
        config: the operators and types it needs, for onnxruntime's build script.
        operators: how many operators that are.
        known: how many this onnxruntime has.
        before_bytes: of the graph and its weights.
        after_bytes: of the file that takes their place.
    """

    folder: Path
    manifest: dict[str, Any]
    config: str
    operators: int
    known: int
    before_bytes: int
    after_bytes: int


class Earlier(NamedTuple):
    """What a run before this one converted of the same graph."""

    model: Path
    config: Path


def origin_of(manifest: Mapping[str, Any]) -> str:
    """Return the identity of what a graph is converted from, and by what, in hex.

    onnxruntime writes other bytes every time: its hash tables are ordered by chance. So what was
    converted once is kept as long as this stays the same, and an installed app's base with it.
    """
    files = manifest["files"]
    parts = [files[name]["sha256"] for name in (GRAPH, DATA) if name in files]
    options = sorted((manifest.get("session_options") or {}).items())
    return hashlib.sha256(repr((parts, options, onnxruntime.__version__)).encode()).hexdigest()


def convert_bundle(
    bundle: Path, manifest: Mapping[str, Any], folder: Path, earlier: Earlier | None = None
) -> Converted:
    """Write a bundle's twin whose graph is model.ort, and hold it to the golden cases.

    Args:
        bundle: the bundle, its files checked.
        manifest: its manifest.
        folder: where to write; it is made.
        earlier: what was converted before, of the same origin.

    Raises:
        EdgeError: onnxruntime cannot convert it.
        GateError: the twin answers otherwise.
    """
    from edge_lra.golden import check_golden

    before = _check_fits(bundle, manifest)
    folder.mkdir(parents=True)
    config = folder.with_name("operators.config")
    if earlier is None:
        _run(model_path(bundle, manifest), folder / ORT_GRAPH, config, manifest)
    else:
        shutil.copyfile(earlier.model, folder / ORT_GRAPH)
        shutil.copyfile(earlier.config, config)
    for name in manifest["files"]:
        if name not in (GRAPH, DATA, GENAI, PRODUCTS):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / name, folder / name)
    operators = read_operators(config)
    twin = {
        **manifest,
        "hosts": [host for host in manifest.get("hosts", ()) if host in HOSTS],
        "min_onnxruntime": _minimum(bundle, manifest, operators),
        "products": None,  # their graph reads the data file
        "prepacked": None,  # the format has no place for packed weights
        "decoder": unshared(manifest),
        "files": describe_files(folder),
    }
    (folder / MANIFEST).write_bytes(seal(twin))
    check_golden(folder, twin)
    known = {(kernel.domain, kernel.op_name) for kernel in get_all_opkernel_def()}
    return Converted(
        folder,
        load_manifest(folder),
        config.read_text(encoding="utf-8"),
        len(operators),
        len(known),
        before,
        (folder / ORT_GRAPH).stat().st_size,
    )


def _check_fits(bundle: Path, manifest: Mapping[str, Any]) -> int:
    """Return the bytes of a graph and its weights that the format can hold."""
    files = manifest["files"]
    if ORT_GRAPH in files:
        raise EdgeError(f"{bundle}: found {ORT_GRAPH} in it, expected {GRAPH}; leave out --ort")
    size: int = sum(files[name]["size"] for name in (GRAPH, DATA) if name in files)
    written = size + shared_bytes(manifest)
    if written > LARGEST:
        raise EdgeError(
            f"{bundle}: found {written} bytes of graph and weights, expected at most {LARGEST} "
            "for onnxruntime's format; leave out --ort"
        )
    return size


def _run(graph: Path, out: Path, config: Path, manifest: Mapping[str, Any]) -> None:
    """Convert in a process of its own."""
    entries = {
        key: str(int(value) if value in (True, False) else value)
        for key, value in (manifest.get("session_options") or {}).items()
    }
    program = (sys.executable, "-m", "edge_lra.embed.convert")
    done = subprocess.run(
        [*program, graph, out, config, json.dumps(entries)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"it ended with {done.returncode}"
        raise EdgeError(f"{graph}: onnxruntime cannot convert it: {reason}; leave out --ort")


def read_operators(config: Path) -> list[str]:
    """Return the operators that a config names, such as `ai.onnx.Gather`, in order.

    A line is `domain;opset;Name{"types": ...},Name`, with commas inside the braces too.
    """
    found = set()
    for line in config.read_text(encoding="utf-8").splitlines():
        domain, _, listed = line.split(";", 2)
        depth, name = 0, ""
        for letter in listed + ",":
            depth += {"{": 1, "}": -1}.get(letter, 0)
            if letter == "," and depth == 0:
                found.add(f"{domain}.{name}")
                name = ""
            elif depth == 0 and letter != "}":
                name += letter
    return sorted(found)


def _minimum(bundle: Path, manifest: Mapping[str, Any], operators: list[str]) -> str:
    """Return the oldest onnxruntime that has the operators of the optimized graph."""
    own = {node.operator for node in read_nodes(bundle / GRAPH)}
    added = {name.rpartition(".")[2] for name in operators if name.startswith("com.microsoft.")}
    known = added <= own | FUSED
    return str(manifest["min_onnxruntime"] if known else onnxruntime.__version__)
