"""Answer "check": does a bundle compute the right numbers on this processor?

Request: bundles (one) and threads. Answer:

- products: whether the bundle's integer products are exact (products.run.Exactness); None where it
  carries no exact integers;
- golden: distances from the golden cases (golden.Comparison);
- operators: how many nodes of each the session ran, from onnxruntime's profiler;
- code: where onnxruntime's code lies in memory, so that an emulator's log can be read.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_lra.agent.host import probe
from edge_lra.agent.inputs import open_session, session_options
from edge_lra.bundle import load_manifest
from edge_lra.golden import Case, compare, read_golden, run_cases
from edge_lra.products.run import run_products
from edge_lra.runner.adapters import AdapterStore
from edge_lra.runner.session import decoder_feeds

MAPS = Path("/proc/self/maps")


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the integer products and the golden cases.

    Raises:
        EdgeError: onnxruntime cannot run them.
    """
    (folder,) = (Path(place) for place in request["bundles"])
    threads = int(request["threads"])
    manifest = load_manifest(folder)
    cases = read_golden(folder, manifest)
    products = run_products(folder, manifest, threads)
    return {
        "products": products and asdict(products),
        "golden": asdict(compare(cases, run_cases(folder, manifest, cases, threads), manifest)),
        "operators": _operators(folder, manifest, cases[0], threads) if cases else {},
        "code": _code_ranges(),
        "host": probe({"folder": str(folder)}),
    }


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
