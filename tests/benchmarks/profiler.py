"""What the profiler itself costs, and whether its numbers hold: latency, ratios, peak memory.

Give a bundle, such as that of `edge-lra sample DIR && cd DIR && edge-lra export --merge`.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import report
from report import Target

from edge_lra.agent.adapter import pick_adapter
from edge_lra.agent.inputs import all_inputs, token_inputs
from edge_lra.agent.memory import Timeline, pss_mib, rss_mib
from edge_lra.agent.timing import Plan as Turns
from edge_lra.agent.timing import time_in_turns
from edge_lra.profile.compare import compare, compare_on
from edge_lra.profile.latencies import Shape
from edge_lra.profile.plan import Plan
from edge_lra.profile.result import Ratio
from edge_lra.runner import Runner
from edge_lra.transport.local import Local

SHAPES: tuple[Shape, ...] = ((1, 16), (1, 128))
BLOCK = 10  # runs of a kind before it is the other's turn


class Watched:
    """Runs something and notes how often the kernel took the core away, per run."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self.taken: list[int] = []

    def __call__(self) -> None:
        self._run()
        self.taken.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw)

    def undisturbed(self, latencies_ms: Sequence[float]) -> float | None:
        """Return the median of the last runs that kept the core; None if none did.

        The first of a block is left out: what was done before it is still in the cache.
        """
        taken = self.taken[-len(latencies_ms) :]
        kept = [
            latency
            for latency, before, after in zip(latencies_ms[1:], taken, taken[1:], strict=False)
            if before == after
        ]
        return statistics.median(kept) if kept else None


def bare_block(run: Watched) -> float | None:
    """Return the median of a loop that does only what a stopwatch needs."""
    found = []
    for _ in range(BLOCK + 1):
        start = time.perf_counter_ns()
        run()
        found.append((time.perf_counter_ns() - start) / 1e6)
    return run.undisturbed(found)


def profiled_block(run: Watched, timeline: Timeline) -> float | None:
    """Return the median as the profiler takes it, samples of memory between the runs included."""
    (found,) = time_in_turns([run], Turns(BLOCK + 1, 0.0, 0), timeline.between_runs)
    return run.undisturbed(found)


def overhead(folder: Path, shape: Shape, rounds: int) -> Ratio:
    """Return the profiler's latency over a bare onnxruntime loop's, blocks in turns.

    Args:
        folder: the bundle.
        shape: (batch, tokens).
        rounds: of two blocks each; one is dropped in which every run of a block lost the core.

    Raises:
        ClickException: no round was left.
    """
    runner = Runner.load(folder, threads=1, verify="never")
    runner.use(pick_adapter(runner.manifest, None))
    # The same session for both: another copy of the weights would lie elsewhere in memory.
    session, names = runner._session, list(runner.output_names)
    feeds = all_inputs(folder, shape, None)
    bare = Watched(lambda: session.run(names, feeds))
    profiled = Watched(runner.prepare(token_inputs(folder, runner.input_names, shape)))
    timeline = Timeline()
    kinds = [lambda: bare_block(bare), lambda: profiled_block(profiled, timeline)]
    found: list[tuple[float, float]] = []
    for round_number in range(-1, rounds):
        order = (0, 1) if round_number % 2 == 0 else (1, 0)
        medians = {place: kinds[place]() for place in order}
        if round_number >= 0 and medians[0] is not None and medians[1] is not None:
            found.append((medians[0], medians[1]))
    if not found:
        raise click.ClickException("every run lost the core; measure on an idle machine")
    return compare(shape, [pair[0] for pair in found], [pair[1] for pair in found])


def peaks(folder: Path, shape: Shape) -> tuple[float, float]:
    """Return the peak RSS in MiB that the profiler reports and that `time -v` counts."""
    program = shutil.which("time")
    if program is None:
        raise click.ClickException("found no time command; apt-get install time")
    request = Plan((shape,), runs=20).request("measure", [str(folder.resolve())], shape)
    done = subprocess.run(
        [program, "-v", sys.executable, "-m", "edge_lra.agent"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    reported = float(json.loads(done.stdout)["memory"]["peak_rss_mib"])
    (line,) = [line for line in done.stderr.splitlines() if "Maximum resident set size" in line]
    return reported, int(line.rpartition(":")[2]) / 1024


def microseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call."""
    found = []
    for _ in range(200):
        start = time.perf_counter_ns()
        call()
        found.append((time.perf_counter_ns() - start) / 1e3)
    return statistics.median(found)


def ratio_rows(name: str, ratios: Sequence[Ratio]) -> list[list[str]]:
    return [
        [
            f"{name}, {found.shape[0]}x{found.shape[1]}",
            f"{found.ratio:.4f}",
            f"{found.interval[0]:.4f}",
            f"{found.interval[1]:.4f}",
        ]
        for found in ratios
    ]


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", default=60, show_default=True)
@click.option("--budget", default=60.0, show_default=True, help="Seconds for A against A.")
def main(bundle: Path, rounds: int, budget: float) -> None:
    """Measure and print ratios with their 95 % intervals, and the targets."""
    place = str(bundle.resolve())
    own = [overhead(bundle, shape, rounds) for shape in SHAPES]
    same = compare_on(Local(), (place, place), Plan(SHAPES, budget_s=budget))
    rows = ratio_rows("profiler / bare loop", own)
    rows += ratio_rows("A / A", same.ratios)
    print(report.table("Ratios", ["what", "ratio", "from", "to"], rows))
    costs = [["RSS", microseconds(rss_mib)], ["PSS", microseconds(pss_mib)]]
    lines = [[str(name), f"{value:.1f}"] for name, value in costs]
    print(report.table("One sample, us", ["what", "median"], lines))
    for warning in same.warnings:
        print(f"Doubtful: {warning}")
    targets = []
    for found in own:
        name = f"overhead, {found.shape[0]}x{found.shape[1]}, %"
        targets.append(Target(name, 100 * (found.ratio - 1), 1.0, False))
    for found in same.ratios:
        name = f"A against A, {found.shape[0]}x{found.shape[1]}, % off"
        targets.append(Target(name, 100 * abs(found.ratio - 1), 2.0, False))
    reported, counted = peaks(bundle, (1, 128))
    name = f"peak RSS {reported:.1f} MiB against time -v {counted:.1f}, % off"
    targets.append(Target(name, 100 * abs(reported / counted - 1), 2.0, False))
    print(report.target_table(targets))


if __name__ == "__main__":
    main()
