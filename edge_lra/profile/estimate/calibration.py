"""What onnxruntime's kernels reach on a processor, found by micro-benchmarks alone."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path

from edge_lra.profile.estimate import kernels
from edge_lra.profile.estimate.costs import BLOCKWISE, BYTES

VERSION = 2  # 2: products of weights in blocks
PRODUCTS = ("int8", "fp32", *BLOCKWISE)
# Sets of weights by rows of the input: the more rows, the less it matters where weights lie.
SETS_MIB: dict[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 4, 16, 64), (0.5, 1.0, 8.0, 40.0, 160.0)),
    256: (0.5, 8.0, 40.0),
    1024: (0.5, 8.0),
}
# Blocks are unpacked at each row: from 64 rows their time grows with these alone, and measuring
# what SETS_MIB asks would take 40 s instead of 11.
BLOCK_SETS_MIB: dict[int, tuple[float, ...]] = {
    1: (0.5, 1.0, 8.0, 40.0, 160.0),
    4: (0.5, 8.0, 40.0, 160.0),
    16: (0.5, 8.0, 40.0),
    64: (0.5, 8.0, 40.0),
    256: (0.5, 8.0),
}
SIZES = (4096, 65536, 1 << 19, 1 << 22)
TOKENS = (16, 64, 128, 256, 512)
HEAD_SIZES = (32, 64)
ATTEMPTS = 3  # sessions with several threads, of which the least counts
WIDE = 2048  # a weight that no cache near a core holds whole: many rows read it many times
WIDE_ROWS = (64, 256, 1024)
WIDTHS = (256, 1024)  # whose difference tells what an output element costs
# Nodes of middling size, graphs of 1 ms: on a busy machine all cores are seldom free for longer.
MIDDLE = {"rows": 128, "set_mib": 1.0, "size": 1 << 17, "tokens": 128, "head_size": 32}
DEFAULT = Path(__file__).with_name("default.json")
Points = tuple[tuple[float, float], ...]  # rising x, seconds


def interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    """Read a curve of seconds between its points, straight in both logarithms.

    Beyond its ends the curve goes on with the slope of its last part above and stays level below.
    """
    if x <= points[0][0] or len(points) == 1:
        return points[0][1]
    place = min(max(1, bisect_left([px for px, _ in points], x)), len(points) - 1)
    (x0, y0), (x1, y1) = points[place - 1], points[place]
    slope = math.log(y1 / y0) / math.log(x1 / x0)
    return float(y0 * (x / x0) ** slope)


@dataclass(frozen=True)
class Calibration:
    """Seconds of onnxruntime's kernels on one processor.

    Attributes:
        cpu: its name; cores and onnxruntime say with it whom the numbers belong to.
        clock_ghz: as the system tells it.
        measured_on: the day.
        node_s: a node that computes next to nothing, in a chain.
        branch_s: what an `If` adds.
        products: seconds for an element of the weight by dtype ("int8", "fp32", "block8",
            "block4"), then by rows of the input (as text), over the MiB of all weights that a run
            streams. A block product rounds its input itself: that is within its seconds, which
            depth and columns hardly change (384 x 1536, 1536 x 384, 512 x 512: within 10 %).
        wide: by dtype, how much longer an element of a weight of 2048 x 2048 takes than one of
            512 x 512, over rows.
        output_s: an element of an int8 product's output, scaled to a float.
        heads: seconds of one attention head over tokens, by "size" or "size masked".
        curves: seconds of a node over elements, or over bytes moved (costs.BYTES).
        threads: for which `serial` was found.
        serial: by product dtype, "attention" or curve, the share of a node's time that other
            threads do not shorten (Amdahl, 1967).
    """

    cpu: str
    cores: int
    onnxruntime: str
    clock_ghz: float
    measured_on: str
    node_s: float
    branch_s: float
    products: Mapping[str, Mapping[str, Points]]
    wide: Mapping[str, Points]
    output_s: float
    heads: Mapping[str, Points]
    curves: Mapping[str, Points]
    threads: int
    serial: Mapping[str, float]

    def weight_seconds(
        self, dtype: str, rows: float, set_mib: float, weights: int = kernels.WIDTH**2
    ) -> float:
        """Return the time an element of a weight takes, straight between rows.

        Args:
            dtype: one of PRODUCTS.
            rows: of the input.
            set_mib: of all weights that the run streams.
            weights: elements of this one.
        """
        table = self.products[dtype]
        known = sorted(map(int, table))
        place = min(max(1, bisect_left(known, rows)), len(known) - 1)
        low, high = known[place - 1], known[place]
        first, second = (interpolate_level(table[str(r)], set_mib) for r in (low, high))
        seconds = first + (second - first) * (max(rows, low) - low) / (high - low)
        width = math.log(max(1, weights) / kernels.WIDTH**2, (WIDE / kernels.WIDTH) ** 2)
        factor = interpolate_level(self.wide[dtype], rows)
        return float(seconds * factor ** min(1.0, max(0.0, width)))

    def best_macs_per_s(self, dtype: str) -> float:
        """Return the best rate of one core that any product reached."""
        return max(
            int(rows) / min(y for _, y in points) for rows, points in self.products[dtype].items()
        )

    @property
    def streamed_gb_s(self) -> float:
        """What one core reads of weights larger than every cache found."""
        return 4e-9 / self.products["fp32"]["1"][-1][1]

    @property
    def overlap(self) -> float:
        """Share of the streaming that multiplying hides, where the two take alike long."""
        points = self.products["fp32"]["16"]
        hot, found = points[0][1], points[-1][1]
        memory = self.products["fp32"]["1"][-1][1]
        hidden = (hot + memory - found) / min(hot, memory)
        return min(1.0, max(0.0, hidden))

    def head_seconds(self, tokens: int, size: int, masked: bool) -> float:
        """Return what one head of a size over `tokens` takes, straight between head sizes."""
        ends = [
            interpolate(self.heads[f"{s}{' masked' if masked else ''}"], tokens) for s in HEAD_SIZES
        ]
        slope = (ends[1] - ends[0]) / (HEAD_SIZES[1] - HEAD_SIZES[0])
        return max(ends[0] + slope * (size - HEAD_SIZES[0]), ends[0] * size / HEAD_SIZES[0] / 2)

    def curve_seconds(self, curve: str, amount: float) -> float:
        """Return what a node of a curve takes."""
        return interpolate(self.curves[curve], amount)

    def slowdown(self, kind: str, speedup: float) -> float:
        """Return a node's time on cores that are together `speedup` times the first, over one's."""
        serial = self.serial.get(kind, 1.0)
        return serial + (1 - serial) / speedup


def interpolate_level(points: Sequence[tuple[float, float]], x: float) -> float:
    """Read a curve that stays level beyond both ends."""
    return interpolate(points, min(x, points[-1][0]))


# ---- measuring -----------------------------------------------------------------------------


def calibrate(threads: int = 1, refresh: bool = False) -> Calibration:
    """Return this machine's calibration, from the user's cache or by measuring.

    That takes about 30 s of a quiet machine, and 45 s more for several threads.

    Args:
        threads: for how many threads the share that they do not shorten is measured.
        refresh: measure even where the cache holds it.
    """
    file = cache_file(threads)
    if not refresh:
        with suppress(OSError, ValueError, TypeError, KeyError):
            return read_calibration(file)
    found = measure(threads)
    with suppress(OSError):  # a read-only home costs the next estimate the micro-benchmarks
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
        temporary.replace(file)
    return found


def cache_file(threads: int) -> Path:
    """Return where this machine's calibration is kept: by processor, onnxruntime and threads."""
    import onnxruntime

    identity = [VERSION, *machine(), onnxruntime.__version__, threads]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "edge-lra" / "calibration" / f"{digest}.json"


def machine() -> tuple[str, str, int]:
    """Return the processor's name, with its instruction set where that is told, and cores."""
    name, features = platform.processor() or platform.machine(), ""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, text = (part.strip() for part in line.partition(":"))
            name = text if key == "model name" else name
            features = text if key in ("flags", "Features") else features
    return name, features, os.cpu_count() or 1


def read_calibration(file: Path) -> Calibration:
    """Return a calibration that was written before; a damaged file raises ValueError or such."""
    raw = json.loads(file.read_text(encoding="utf-8"))

    def points(rows: Sequence[Sequence[float]]) -> Points:
        return tuple((float(x), float(y)) for x, y in rows)

    return Calibration(
        **raw
        | {
            "products": {
                dtype: {rows: points(curve) for rows, curve in table.items()}
                for dtype, table in raw["products"].items()
            },
            "heads": {name: points(curve) for name, curve in raw["heads"].items()},
            "curves": {name: points(curve) for name, curve in raw["curves"].items()},
            "wide": {dtype: points(curve) for dtype, curve in raw["wide"].items()},
        }
    )


def default_calibration() -> Calibration:
    """Return the calibration that travels with the package."""
    return read_calibration(DEFAULT)


def measure(threads: int) -> Calibration:
    """Run every micro-benchmark on one thread, and a few on `threads`."""
    import onnxruntime
    import psutil

    curves = {
        name: tuple((float(size), seconds(size, 1)) for size in _sizes(name))
        for name, seconds in kernels.CURVES.items()
    }
    heads = {
        f"{size}{' masked' if masked else ''}": tuple(
            (float(t), kernels.attention_seconds(t, size, masked, 1)) for t in TOKENS
        )
        for size in HEAD_SIZES
        for masked in (False, True)
    }
    frequency = psutil.cpu_freq()
    output_s = _output_seconds(curves["quantize"])
    products = {dtype: _products(dtype, curves["quantize"], output_s) for dtype in PRODUCTS}
    return Calibration(
        cpu=machine()[0],
        cores=machine()[2],
        onnxruntime=onnxruntime.__version__,
        clock_ghz=round((frequency.max or frequency.current) / 1e3, 2) if frequency else 2.5,
        measured_on=date.today().isoformat(),
        node_s=kernels.node_seconds(),
        branch_s=kernels.branch_seconds(),
        products=products,
        wide={
            dtype: _wide(dtype, table, curves["quantize"], output_s)
            for dtype, table in products.items()
        },
        output_s=output_s,
        heads=heads,
        curves=curves,
        threads=threads,
        serial=_serial_shares(threads) if threads > 1 else {},
    )


def _sizes(curve: str) -> tuple[int, ...]:
    return tuple(12 * size for size in SIZES) if curve in BYTES else SIZES


def _products(dtype: str, quantize: Points, output_s: float) -> dict[str, Points]:
    """Return seconds for an element of the weight, by rows, over the MiB of all weights."""
    return {
        str(rows): tuple(
            (mib, _weight_seconds(dtype, rows, mib, kernels.WIDTH, quantize, output_s))
            for mib in sets
        )
        for rows, sets in (BLOCK_SETS_MIB if dtype in BLOCKWISE else SETS_MIB).items()
    }


def _wide(dtype: str, table: Mapping[str, Points], quantize: Points, output_s: float) -> Points:
    """Return how much longer an element of one wide weight takes, over rows."""
    mib = kernels.weight_bytes(dtype, WIDE) / 2**20
    return tuple(
        (
            float(rows),
            _weight_seconds(dtype, rows, mib, WIDE, quantize, output_s)
            / interpolate_level(table[str(rows)], mib),
        )
        for rows in WIDE_ROWS
        if str(rows) in table
    )


def _weight_seconds(
    dtype: str, rows: int, set_mib: float, width: int, quantize: Points, output_s: float
) -> float:
    """Time a product; an int8 one without the input's quantization and the output's scaling."""
    seconds = kernels.product_seconds(dtype, rows, set_mib, 1, width)
    if dtype == "int8":
        around = interpolate(quantize, rows * width) + output_s * rows * width
        seconds = max(seconds - around, 0.3 * seconds)
    return seconds / width**2


def _output_seconds(quantize: Points) -> float:
    """Tell an output element's time from that of the products behind it by two depths.

    A product of (rows, w) and (w, w) takes a w^2 + rows w (output + quantize).
    """
    rows = 64
    each = [
        (kernels.product_seconds("int8", rows, 0.0, 1, width) - interpolate(quantize, rows * width))
        / width**2
        for width in WIDTHS
    ]
    return max(0.0, (each[0] - each[1]) / (rows / WIDTHS[0] - rows / WIDTHS[1]))


def _serial_shares(threads: int) -> dict[str, float]:
    """Compare nodes of middling size on one and on several threads."""
    rows, tokens, head = (int(MIDDLE[name]) for name in ("rows", "tokens", "head_size"))
    timed: dict[str, Callable[[int], float]] = {
        dtype: partial(kernels.product_seconds, dtype, rows, MIDDLE["set_mib"])
        for dtype in PRODUCTS
    }
    timed["attention"] = partial(kernels.attention_seconds, tokens, head, False)
    for name, seconds in kernels.CURVES.items():
        timed[name] = partial(seconds, int(MIDDLE["size"]) * (12 if name in BYTES else 1))

    def share(run: Callable[[int], float]) -> float:
        together = min(run(threads) for _ in range(ATTEMPTS))
        return min(1.0, max(0.0, (threads * together / run(1) - 1) / (threads - 1)))

    return {kind: share(run) for kind, run in timed.items()}
