"""What importing the runner costs beyond its two libraries, in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys

import click
import report
from report import Target

LIBRARIES = "import numpy, onnxruntime"
RUNNER = f"{LIBRARIES}; start = perf_counter(); import edge_lra.runner"
TIMED = "from time import perf_counter; start = perf_counter(); {}; print(perf_counter() - start)"


def milliseconds(code: str) -> float:
    """Time an import in a process of its own; in RUNNER the clock starts after the libraries."""
    command = [sys.executable, "-c", TIMED.format(code)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return 1e3 * float(done.stdout)


@click.command()
@click.option("--rounds", default=21, show_default=True)
def main(rounds: int) -> None:
    """Import in turns and print medians."""
    codes = {"numpy and onnxruntime": LIBRARIES, "edge_lra.runner after them": RUNNER}
    found: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(rounds):
        for name, code in codes.items():
            found[name].append(milliseconds(code))
    rows = [[n, f"{statistics.median(v):.1f}", f"{min(v):.1f}"] for n, v in found.items()]
    print(report.table("Import time, ms", ["import", "median", "least"], rows))
    own = statistics.median(found["edge_lra.runner after them"])
    print(report.target_table([Target("edge_lra.runner, ms", own, 50.0, False)]))


if __name__ == "__main__":
    main()
