"""`edge-lra run`: text or arrays through a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.common import bundle_argument, find_bundle, shared_options, write_json
from edge_lra.errors import EdgeError

if TYPE_CHECKING:
    import numpy as np

    from edge_lra.runner import Runner


@click.command()
@bundle_argument
@click.option("--text", "texts", multiple=True, help="Repeatable.")
@click.option("--text-pair", "pairs", multiple=True, help="One a --text.")
@click.option("--question")
@click.option("--context")
@click.option(
    "--input", "arrays", type=click.Path(path_type=Path), help="Token ids: .npz or .safetensors."
)
@click.option("--adapter", help="Of a factored bundle; its default otherwise.")
@click.option("--threads", type=click.IntRange(min=1))
@shared_options
def run(bundle: Path | None, threads: int | None, json_to: str | None, **given: Any) -> None:
    """Run texts, a question, or arrays."""
    kinds = [bool(given["texts"]), given["question"] is not None, given["arrays"] is not None]
    if sum(kinds) != 1:
        raise click.UsageError("give one of --text, --question with --context, or --input")
    if (given["question"] is None) != (given["context"] is None):
        raise click.UsageError("--question and --context go together")
    if given["pairs"] and len(given["pairs"]) != len(given["texts"]):
        raise click.UsageError("give one --text-pair for each --text")
    from edge_lra.runner import Runner

    runner = Runner.load(find_bundle(bundle, Path.cwd()), threads=threads)
    if runner.manifest["task"] == "text-generation" and given["arrays"] is None:
        raise EdgeError(
            f"{runner.path}: the bundle's task is text-generation; run edge-lra generate"
        )
    if given["adapter"] is not None:
        runner.use(given["adapter"])
    results = answer(runner, given)
    document = {"schema_version": 1, "task": runner.manifest["task"], "results": results}
    if write_json(document, json_to):
        for line in describe(results):
            click.echo(line)


def answer(runner: Runner, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Run what was given by the bundle's task; return plain values."""
    if given["arrays"] is not None:
        outputs = runner.run(read_arrays(given["arrays"]))
        return [{"output": name, "values": value.tolist()} for name, value in outputs.items()]
    if given["question"] is not None:
        return [asdict(runner.answer(given["question"], given["context"]))]
    texts, pairs = list(given["texts"]), list(given["pairs"]) or None
    task = runner.manifest["task"]
    if pairs and task != "sequence-classification":
        raise EdgeError(f"text-pair: the bundle's task is {task}, expected sequence-classification")
    found: list[dict[str, Any]]
    if task == "token-classification":
        found = [{"entities": [asdict(e) for e in row]} for row in runner.tag(texts)]
    elif task in ("feature-extraction", "sentence-embedding"):
        found = [{"vector": row.tolist()} for row in runner.embed(texts)]
    else:
        found = [asdict(row) for row in runner.classify(texts, pairs)]
    return [{"text": text, **row} for text, row in zip(texts, found, strict=True)]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read arrays by name.

    Raises:
        EdgeError: another kind of file, or a damaged one.
    """
    readers = {".npz": read_npz, ".safetensors": read_safetensors}
    if path.suffix not in readers:
        raise EdgeError(f"{path}: found {path.suffix!r}, expected .npz or .safetensors")
    if not path.is_file():
        raise EdgeError(f"{path}: found no such file; check --input")
    try:
        return readers[path.suffix](path)
    except Exception as error:  # damage makes zip, zlib, numpy and safetensors raise their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        kind = "an .npz file" if path.suffix == ".npz" else "a safetensors file"
        raise EdgeError(f"{path}: found {reason}, expected {kind}") from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a numpy archive; none that is a pickle."""
    import zipfile

    import numpy as np

    with zipfile.ZipFile(path):  # np.load would take one bare array, or a pickle, for it
        pass
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a safetensors file."""
    from safetensors.numpy import load_file

    return dict(load_file(path))


def array_text(name: str, values: list[Any]) -> str:
    """Return an output's shape and values; those in the middle of many are left out."""
    import numpy as np

    array = np.array(values)
    text = np.array2string(array, precision=4, threshold=100, edgeitems=2, max_line_width=80)
    return f"{name} {list(array.shape)}\n{text}"


def describe(results: list[dict[str, Any]]) -> list[str]:
    """Return a line a result, an entity or an output."""
    lines = []
    for row in results:
        if "label" in row:
            lines.append(f"{row['label']}\t{row['score']:.4f}\t{row['text']}")
        elif "entities" in row:
            none = [] if row["entities"] else [f"-\t-\t-\t{row['text']}"]
            lines += none or [
                f"{e['label']}\t{e['score']:.4f}\t{e['text']}\t{row['text']}"
                for e in row["entities"]
            ]
        elif "vector" in row:
            head = " ".join(f"{value:.4f}" for value in row["vector"][:4])
            lines.append(f"[{head} ...] {len(row['vector'])} values\t{row['text']}")
        elif "values" in row:
            lines.append(array_text(row["output"], row["values"]))
        else:
            lines.append(f"{row['text']}\t{row['score']:.4f}")
    return lines
