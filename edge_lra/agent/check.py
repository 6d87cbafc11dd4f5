"""Answer "check": does a bundle compute the right numbers on this processor?

Request: bundles (one), threads, and `products`, written by profile.products: the ONNX model of
the bundle's integer products (base64), and for each its width, the `largest` activation and `worst`
rows (base64 of packed bits). Answer:

- digests: of each product's integers, sha256, for the host to compare with the exact ones;
- golden: distances from the golden cases (golden.Comparison);
- operators: how many nodes of each the session ran, from onnxruntime's profiler;
- code: where onnxruntime's code lies in memory, so that an emulator's log can be read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edge_lra.agent.host import probe
from edge_lra.agent.inputs import open_session, session_options
from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.golden import Case, compare, read_golden, run_cases
from edge_lra.runner.adapters import AdapterStore
from edge_lra.runner.session import decoder_feeds

# DynamicQuantizeLinear gives any from 0 to 255; kernels treat 128 and the ends apart.
ZERO_POINTS = (0, 128, 255)
RANDOM_ROWS = 7  # beside four of extremes and the worst two: a tail of every kernel's row tile
PAIRS = ((255, 255), (255, 0), (0, 255), (254, 255))
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
MAPS = Path("/proc/self/maps")
Array = np.ndarray


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the integer products and the golden cases.

    Raises:
        EdgeError: onnxruntime cannot run them.
    """
    (folder,) = (Path(place) for place in request["bundles"])
    threads = int(request["threads"])
    manifest = load_manifest(folder)
    cases = read_golden(folder, manifest)
    return {
        "digests": _digests(folder, request["products"], threads),
        "golden": asdict(compare(cases, run_cases(folder, manifest, cases, threads), manifest)),
        "operators": _operators(folder, manifest, cases[0], threads) if cases else {},
        "code": _code_ranges(),
        "host": probe({"folder": str(folder)}),
    }


def activations(width: int, worst: Array, largest: int = 255) -> Array:
    """Return the u8 rows (rows, width) that a product is run with.

    Args:
        width: of a row.
        worst: (2, width) of 0 and `largest`: those of the largest and the smallest sum.
        largest: that an activation may be.
    """
    pairs = np.minimum(PAIRS, largest).astype(np.uint8)
    extremes = np.stack([np.resize(pair, width) for pair in pairs])
    # RandomState gives the same numbers in every version of numpy.
    random = np.random.RandomState(0).randint(0, 256, (RANDOM_ROWS, width), dtype=np.uint8)
    return np.concatenate([worst, extremes, np.minimum(random, np.uint8(largest))])


def digest(blocks: Sequence[Array]) -> str:
    """Return the sha256 of integers, block by block."""
    total = hashlib.sha256()
    for block in blocks:
        total.update(np.ascontiguousarray(block, "<i4").tobytes())
    return total.hexdigest()


def _digests(folder: Path, products: Mapping[str, Any], threads: int) -> list[str]:
    """Run every product with every zero point, all rows and one: they take different kernels."""
    if not products["widths"]:
        return []
    feeds = {}
    columns = (products[name] for name in ("widths", "largest", "worst"))
    for place, (width, largest, packed) in enumerate(zip(*columns, strict=True)):
        bits = np.frombuffer(base64.b64decode(packed), np.uint8)
        worst = np.unpackbits(bits, count=2 * width).reshape(2, width) * np.uint8(largest)
        feeds[f"x{place}"] = activations(width, worst, largest)
    options = session_options(folder, threads)
    options.add_session_config_entry(WEIGHTS_FOLDER, str(folder))
    model = base64.b64decode(products["model"])
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        found: list[list[Array]] = [[] for _ in feeds]
        for zero_point in ZERO_POINTS:
            for rows in (slice(None), slice(1)):
                cut = {name: value[rows] for name, value in feeds.items()}
                outputs = session.run(None, cut | {"zero_point": np.array(zero_point, np.uint8)})
                for blocks, output in zip(found, outputs, strict=True):
                    blocks.append(output)
    except Exception as error:  # onnxruntime's classes share no public base
        reason = str(error).strip().partition("\n")[0]
        raise EdgeError(f"{folder}: the integer products cannot be run: {reason}") from error
    return [digest(blocks) for blocks in found]


def _operators(
    folder: Path, manifest: Mapping[str, Any], case: Case, threads: int
) -> dict[str, int]:
    """Run one case under the profiler; return how many nodes of each operator ran."""
    with tempfile.TemporaryDirectory() as scratch:
        options = session_options(folder, threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "ops")
        session = open_session(folder, options)
        adapter = case.adapter if manifest["adapter_inputs"] else None
        factors = AdapterStore(folder, manifest, verify=False).tensors(adapter)
        session.run(None, {**case.inputs, **decoder_feeds(manifest, case.inputs, factors)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = {e["name"]: e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time")}
    return dict(Counter(ran.values()))


def _code_ranges() -> list[list[int]]:
    """Return [start, end) of the executable parts of onnxruntime's libraries; none elsewhere."""
    try:
        text = MAPS.read_text(encoding="utf-8")
    except OSError:
        return []
    rows = re.finditer(r"^(\w+)-(\w+) ..x. .*/onnxruntime/.*$", text, re.MULTILINE)
    return [[int(row[1], 16), int(row[2], 16)] for row in rows]
