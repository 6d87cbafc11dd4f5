"""The same bundle in Node, in a page of Chromium and in Python, one thread each, in turns.

    python -m tests.benchmarks.javascript BUNDLE [--shape 1x128] [--rounds 20]

Needs `make runtime-js chromium`.
"""

from __future__ import annotations

import importlib.metadata
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge_lra import Runner
from edge_lra.agent.host import probe
from edge_lra.agent.inputs import token_inputs
from edge_lra.agent.timing import timed_run
from tests.benchmarks.report import table
from tests.runtime.js.chromium import Chromium
from tests.runtime.js.hosts import Host, Node, Web, value_of

RUNS = 3  # a turn


def of_host(host: Host, bundle: Path, shape: list[int]) -> Callable[[], dict[str, Any]]:
    """Return what times a few runs in a host; the bundle stays loaded."""
    request = {"verb": "time", "bundle": host.place(bundle), "runs": RUNS, "shape": shape}
    return lambda: value_of(host.ask(request)[0])


def of_python(bundle: Path, shape: list[int]) -> Callable[[], dict[str, Any]]:
    """Return what times a few runs in this process."""
    runner = Runner.load(bundle, threads=1)
    batch, tokens = shape
    run = runner.prepare(token_inputs(bundle, runner.input_names, (batch, tokens)))

    def turn() -> dict[str, Any]:
        run()
        return {"latenciesMs": [timed_run(run) for _ in range(RUNS)]}

    return turn


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--shape", default="1x128", show_default=True)
@click.option("--rounds", default=20, show_default=True)
def main(bundle: Path, shape: str, rounds: int) -> None:
    """Time a bundle in each and print medians."""
    sizes = [int(size) for size in shape.split("x")]
    bundle = bundle.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in ("cache", "served")]
        for folder in folders:
            folder.mkdir()
        browser = Chromium()
        node, web = Node(folders[0]), Web(browser, folders[1])
        turns = {
            "Node": of_host(node, bundle, sizes),
            "Chromium": of_host(web, bundle, sizes),
            "Python": of_python(bundle, sizes),
        }
        first = {name: turn() for name, turn in turns.items()}
        found: dict[str, list[float]] = {name: [] for name in turns}
        for place in range(rounds):
            for name in list(turns) if place % 2 else list(turns)[::-1]:
                found[name] += turns[name]()["latenciesMs"]
        web.close()
        node.close()
        browser.close()
    releases = {name: one.get("onnxruntime") for name, one in first.items()}
    releases["Python"] = importlib.metadata.version("onnxruntime")
    rows = [
        [
            name,
            releases[name],
            f"{statistics.median(values):.1f}",
            f"{min(values):.1f}",
            f"{statistics.median(values) / statistics.median(found['Node']):.2f}",
            f"{first[name]['loadMs']:.0f}" if "loadMs" in first[name] else "",
        ]
        for name, values in found.items()
    ]
    title = f"{bundle.name}, {shape}, one thread, {rounds * RUNS} runs: ms ({probe({})['cpu']})"
    heads = ["host", "onnxruntime", "median", "least", "over Node's", "load"]
    print(table(title, heads, rows))


if __name__ == "__main__":
    main()
