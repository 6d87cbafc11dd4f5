"""Tables and targets of the encoder benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Latencies = Mapping[str, Mapping[str, Mapping[str, float]]]  # shape, engine, statistic
OURS, FACTORED = "ours int8 merged", "ours int8 factored"
CLASSIFIER, NO_DATA, INT4 = "ours int8 classifier", "ours int8 merged, no data", "ours int4 merged"
PREPACKED = "ours int8 merged, prepacked"
CTRANSLATE2 = "CTranslate2 int8"
RAGGED = "ragged 8"
FLOATS = ("ours none (float32)", "ORT fp32 export", "ORT fp32 optimizer")


@dataclass(frozen=True)
class Target:
    """A number the project holds itself to."""

    name: str
    found: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"met": self.met}


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a plain table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headings, *rows)
    ]
    return "\n".join([title, *lines, ""])


def cell(shape: Mapping[str, Mapping[str, float]], name: str) -> str:
    """Return an engine's milliseconds and how many of ours fit in them."""
    if name not in shape:
        return ""
    found = shape[name]["median_ms"]
    return f"{found:8.2f} {found / shape[OURS]['median_ms']:5.2f}x"


def latency_table(latencies: Latencies, threads: int) -> str:
    """Return milliseconds and ratios by engine and shape."""
    names = list(dict.fromkeys(name for shape in latencies.values() for name in shape))
    rows = [[name, *(cell(shape, name) for shape in latencies.values())] for name in names]
    title = f"Latency, {threads} thread(s): median ms, and as a multiple of {OURS}"
    return table(title, ["engine", *latencies], rows)


def size_table(loading: Mapping[str, Mapping[str, float]], sizes: Mapping[str, float]) -> str:
    """Return sizes, load times and memory by engine."""
    keys = {"load_s": ".3f", "loaded_mib": ".0f", "run_mib": ".0f", "anonymous_mib": ".0f"}
    rows = [
        [name, f"{sizes[name]:.1f}", *(format(found[key], spec) for key, spec in keys.items())]
        for name, found in loading.items()
    ]
    headings = ["engine", "MB", "load s", "MiB loaded", "MiB after a run", "anonymous"]
    return table("Size, loading, and memory above imports (1 thread)", headings, rows)


def fidelity_table(cosines: Mapping[str, Mapping[str, float]], texts: int) -> str:
    """Return the worst cosines by engine."""
    keys = ("mean_pooled", "token", "flattened")
    rows = [[name, *(f"{found[key]:.5f}" for key in keys)] for name, found in cosines.items()]
    title = f"Worst cosine against float over {texts} texts, one a run"
    return table(title, ["engine", "mean-pooled", "token", "flattened"], rows)


def accuracy_table(accuracies: Mapping[str, float], rows: int) -> str:
    """Return the accuracies by model."""
    lines = [[name, f"{value:.2f}"] for name, value in accuracies.items()]
    return table(f"Sentiment accuracy on {rows} held-out rows", ["model", "%"], lines)


def speed_targets(latencies: Latencies) -> list[Target]:
    """Return the targets on speed; the float peer is the quickest of its kind."""

    def over_ours(shape: str, names: Sequence[str]) -> float:
        found = [latencies[shape][name]["median_ms"] for name in names]
        return min(found) / latencies[shape][OURS]["median_ms"]

    peers = [("ORT fp32", FLOATS, 2.1)]
    limits: list[tuple[str, Sequence[str], str, float]] = []
    if CTRANSLATE2 in latencies["1x128"]:
        peers.append((CTRANSLATE2, [CTRANSLATE2], 1.25))
        pairs = (("1x128", 1.05), ("1x16", 1.4), ("8x128", 1.3))
        limits += [(CTRANSLATE2, [CTRANSLATE2], shape, limit) for shape, limit in pairs]
    targets = [
        Target(f"{label} / {OURS}, {shape}, 1 thread", over_ours(shape, names), limit, True)
        for label, names, shape, limit in limits
    ]
    classifier = latencies["1x128"][CLASSIFIER]["median_ms"]
    for label, names, limit in peers:
        found = min(latencies["1x128"][name]["median_ms"] for name in names) / classifier
        targets.append(Target(f"{label} / {CLASSIFIER}, 1x128, 1 thread", found, limit, True))
    extra = 100 * (over_ours("1x128", [FACTORED]) - 1)
    return [*targets, Target("factored over merged, 1x128, %", extra, 2.5, False)]


def ragged_targets(latencies: Mapping[str, Latencies]) -> list[Target]:
    """Return the targets on rows of different lengths, by number of threads."""
    targets = []
    for threads, found in latencies.items():
        times = {name: entry["median_ms"] for name, entry in found[RAGGED].items()}
        if CTRANSLATE2 in times:
            ratio = times[CTRANSLATE2] / times[f"{OURS}, row by row"]
            name = f"{CTRANSLATE2} / {OURS}, {RAGGED}, {threads} thread(s)"
            targets.append(Target(name, ratio, 1.6, True))
    return targets


def loading_targets(loading: Mapping[str, Mapping[str, float]]) -> list[Target]:
    """Return the targets on loading and memory, against CTranslate2 where it is installed."""
    limits = [(PREPACKED, "load_s", 0.8), (PREPACKED, "run_mib", 1.0), (OURS, "run_mib", 1.0)]
    return [
        Target(
            f"{name} / {CTRANSLATE2}, {key}",
            loading[name][key] / loading[CTRANSLATE2][key],
            limit,
            False,
        )
        for name, key, limit in limits
        if CTRANSLATE2 in loading
    ]


def quality_targets(result: Mapping[str, Any]) -> list[Target]:
    """Return the targets on size, fidelity and accuracy."""
    names, percent = (OURS, FACTORED), result["accuracy_percent"]
    cosines = {OURS: 0.997, NO_DATA: 0.995, FACTORED: 0.997, INT4: 0.985}
    return [
        *(Target(f"{n}, weights MB", result["weights_mb"][n], 24.0, False) for n in names),
        Target(f"{INT4}, weights MB", result["weights_mb"][INT4], 17.0, False),
        *(
            Target(f"{n}, cosine", result["cosines"][n]["mean_pooled"], limit, True)
            for n, limit in cosines.items()
        ),
        *(
            Target(f"{n}, points from float", abs(percent[n] - percent["float"]), 0.5, False)
            for n in names
        ),
    ]


def target_table(targets: Sequence[Target]) -> str:
    """Return found, limit and verdict."""
    rows = [
        [
            target.name,
            f"{target.found:.4g}",
            f"{'>=' if target.at_least else '<='} {target.limit:g}",
            "met" if target.met else "MISSED",
        ]
        for target in targets
    ]
    return table("Targets", ["what", "found", "limit", ""], rows)
