"""The runner: a bundle's session, its adapters and its inputs, checked before each run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edge_lra.bundle import check_files, load_manifest
from edge_lra.errors import EdgeError
from edge_lra.runner import tasks
from edge_lra.runner.adapters import UNSET, AdapterChoice, AdapterStore
from edge_lra.runner.entries import check_entries
from edge_lra.runner.external import GRAPH, model_path
from edge_lra.runner.memory import check_load
from edge_lra.runner.opening import session_options
from edge_lra.runner.text import TextEncoder, Tokens


class Runner:
    """A loaded bundle. `run` and the task methods are safe from many threads."""

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        session: ort.InferenceSession,
        adapters: AdapterStore,
    ) -> None:
        self.path = folder
        self.manifest = manifest
        self._session = session
        self._store = adapters
        self._text = TextEncoder(folder, manifest)
        self._default: str | None = None
        self.use(manifest.get("default_adapter") if adapters.names else None)

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None, verify: str = "once") -> Runner:
        """Open a bundle for the CPU.

        Args:
            path: the bundle folder.
            threads: threads within an operator; None leaves it to onnxruntime.
            verify: when to hash the files: "once" a path, "always" or "never".

        Raises:
            EdgeError: not a bundle, damaged, or it needs a newer onnxruntime.
        """
        folder = Path(path)
        manifest = load_manifest(folder)
        check_files(folder, manifest, verify)
        check_load(folder, manifest)
        session = open_session(folder, manifest, threads)
        store = AdapterStore(folder, manifest, verify != "never")
        runner = cls(folder, manifest, session, store)
        expected = {*runner.input_names, *store.input_names, *decoder_inputs(manifest)}
        check_graph(folder, session, expected, runner.output_names)
        return runner

    @property
    def input_names(self) -> tuple[str, ...]:
        """The token inputs `run` takes."""
        return tuple(node["name"] for node in self.manifest["inputs"])

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs `run` gives."""
        return tuple(node["name"] for node in self.manifest["outputs"])

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters one can choose."""
        return self._store.names

    @property
    def default_adapter(self) -> str | None:
        """The adapter of a run that names none."""
        return self._default

    def use(self, adapter: str | None) -> None:
        """Set the default adapter; None turns the factors off."""
        if adapter is not None:
            self._store.check_name(adapter)
        self._default = adapter

    def run(
        self, inputs: Mapping[str, Any], adapter: AdapterChoice = UNSET
    ) -> dict[str, np.ndarray]:
        """Run one batch.

        Args:
            inputs: arrays (batch, sequence) by input name; integers of any width serve as ids
                and missing `token_type_ids` are zeros.
            adapter: a name; None for no adapter; unset for the default of `use`.

        Returns:
            The outputs by name.

        Raises:
            EdgeError: an input is missing, unknown or ill-shaped, or the adapter is unknown.
        """
        names = self.output_names
        values = self.prepare(inputs, adapter)()
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

    def prepare(
        self, inputs: Mapping[str, Any], adapter: AdapterChoice = UNSET
    ) -> Callable[[], list[Any]]:
        """Check one batch and return the function that runs it, as often as it is called.

        For loops over the same arrays, such as a profiler's: the checks take 25 us a run.

        Returns:
            A function of no arguments that gives the outputs in the order of `output_names`.

        Raises:
            EdgeError: as `run`, here or when the function is called.
        """
        factors = self._store.tensors(self._chosen(adapter))
        checked = check_inputs(inputs, self.manifest)
        feeds = {**checked, **decoder_feeds(self.manifest, checked, factors)}
        names, session = list(self.output_names), self._session

        def run() -> list[Any]:
            try:
                return list(session.run(names, feeds))
            except Exception as error:  # onnxruntime's classes share no public base
                raise EdgeError(f"{self.path}: the run failed: {first_line(error)}") from error

        return run

    def adapter_tensors(self, adapter: AdapterChoice = UNSET) -> dict[str, np.ndarray]:
        """Return what an adapter feeds the graph by input name; empty for a merged bundle."""
        return dict(self._store.tensors(self._chosen(adapter)))

    def tokenize(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tokens:
        """Return the inputs of one batch, padded to the longest, and how many were truncated."""
        return self._text.tokenize(texts, pairs)

    def classify(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        adapter: AdapterChoice = UNSET,
    ) -> list[tasks.Classification]:
        """Return label, score and all scores for each text."""
        self._expect("classify", "sequence-classification")
        name = self._chosen(adapter)
        rows = self._rows(texts, pairs, name)
        labels = self._store.labels(name)
        problem = self.manifest.get("problem_type")
        return [tasks.classification(row.outputs["logits"], labels, problem) for row in rows]

    def embed(self, texts: Sequence[str], adapter: AdapterChoice = UNSET) -> np.ndarray:
        """Return one float32 vector a text, (texts, width), pooled as the manifest says."""
        self._expect("embed", "sentence-embedding", "feature-extraction")
        rows = self._rows(texts, None, self._chosen(adapter))
        pooling = self.manifest.get("pooling") or {"mode": "mean", "normalize": False}
        output = self.manifest["outputs"][0]
        width = output["shape"][-1] if isinstance(output["shape"][-1], int) else 0
        vectors = [tasks.pool(row.outputs[output["name"]], pooling) for row in rows]
        return np.stack(vectors) if vectors else np.zeros((0, width), np.float32)

    def tag(
        self,
        texts: Sequence[str],
        adapter: AdapterChoice = UNSET,
        aggregation: str = "simple",
    ) -> list[list[tasks.Entity]]:
        """Return each text's entities, merged by their B- and I- labels.

        Args:
            texts: the texts.
            adapter: as in `run`.
            aggregation: "simple" labels each token by itself; "first" gives a word the label
                of its first token.
        """
        self._expect("tag", "token-classification")
        name = self._chosen(adapter)
        labels = self._store.labels(name)
        return [
            tasks.entities(row.outputs["logits"], row.encoding, text, labels, aggregation)
            for text, row in zip(texts, self._rows(texts, None, name), strict=True)
        ]

    def answer(
        self,
        question: str,
        context: str,
        adapter: AdapterChoice = UNSET,
        max_answer_tokens: int = 30,
    ) -> tasks.Answer:
        """Return the span of the context that best answers; a long context is read in windows."""
        self._expect("answer", "question-answering")
        name = self._chosen(adapter)
        windows = self._text.windows(question, context)
        best = [
            tasks.best_span(self.run(window.inputs, adapter=name), window, max_answer_tokens)
            for window in windows
        ]
        score, start, end = max(best)
        return tasks.Answer(context[start:end], score, start, end)

    def _chosen(self, adapter: AdapterChoice) -> str | None:
        return self._default if adapter is UNSET else adapter

    def _expect(self, method: str, *expected: str) -> None:
        if self.manifest["task"] not in expected:
            raise EdgeError(
                f"{method}: the bundle's task is {self.manifest['task']}, "
                f"expected {' or '.join(expected)}"
            )

    def _rows(
        self, texts: Sequence[str], pairs: Sequence[str] | None, adapter: str | None
    ) -> list[tasks.Row]:
        """Run texts in batches of like length and return rows in the caller's order."""
        self._store.tensors(adapter)  # a bad adapter is an error for an empty list too
        rows: dict[int, tasks.Row] = {}
        for batch in self._text.batches(texts, pairs):
            outputs = self.run(batch.inputs, adapter=adapter)
            for place, (index, encoding) in enumerate(
                zip(batch.indices, batch.encodings, strict=True)
            ):
                rows[index] = tasks.Row.cut(outputs, place, encoding)
        return [rows[index] for index in range(len(rows))]


def decoder_inputs(manifest: Mapping[str, Any]) -> list[str]:
    """Return the graph inputs of a decoder's cache and of the choice of adapters."""
    decoder = manifest.get("decoder")
    if not decoder:
        return []
    index = decoder["adapter_index"]
    return [*(entry["past"] for entry in decoder["cache"]), *([index] if index else [])]


def decoder_feeds(
    manifest: Mapping[str, Any],
    inputs: Mapping[str, np.ndarray],
    factors: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return what the graph takes beside token inputs, for a run without a past.

    A decoder gets an empty cache, and the one adapter of this run as a stack of one.
    """
    decoder = manifest.get("decoder")
    if not decoder:
        return dict(factors)
    batch = len(inputs["input_ids"])
    empty = np.zeros((batch, decoder["kv_heads"], 0, decoder["head_size"]), np.float32)
    feeds = {entry["past"]: empty for entry in decoder["cache"]}
    feeds |= {name: tensor[None] for name, tensor in factors.items()}
    if decoder["adapter_index"]:
        feeds[decoder["adapter_index"]] = np.zeros(batch, np.int64)
    return feeds


def check_inputs(inputs: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the token inputs as the graph wants them, or raise a one-line EdgeError."""
    nodes = {node["name"]: node for node in manifest["inputs"]}
    unknown = sorted(map(str, inputs.keys() - nodes.keys()))
    if unknown:
        raise EdgeError(f"inputs: found {unknown[0]!r}, expected {', '.join(nodes)}")
    given = dict(inputs)
    if "token_type_ids" in nodes and "token_type_ids" not in given and "input_ids" in given:
        shape = _as_array("input_ids", given["input_ids"]).shape
        given["token_type_ids"] = np.zeros(shape, np.int64)
    arrays: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = {}
    for name, node in nodes.items():
        if name not in given:
            raise EdgeError(f"inputs: found no {name!r}, expected {', '.join(nodes)}")
        arrays[name] = _typed(name, _as_array(name, given[name]), node["dtype"])
        _check_shape(name, arrays[name].shape, node["shape"], sizes)
    if manifest.get("decoder"):
        _check_whole(arrays)
    size = manifest.get("vocabulary_size")
    if size and "input_ids" in arrays:
        low, high = int(arrays["input_ids"].min()), int(arrays["input_ids"].max())
        if low < 0 or high >= size:  # onnxruntime would take -1 for the last row
            odd = low if low < 0 else high
            raise EdgeError(f"input_ids: found {odd}, expected ids of 0 to {size - 1}")
    longest = manifest.get("max_length")
    if longest and sizes.get("sequence", 0) > longest:
        raise EdgeError(
            f"inputs: found {sizes['sequence']} tokens, expected at most {longest}; truncate them"
        )
    return arrays


def _check_whole(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse padding, which a decoder's attention would take for tokens."""
    tokens, mask = arrays["input_ids"], arrays["attention_mask"]
    if mask.shape != tokens.shape or not mask.all():
        raise EdgeError(
            f"attention_mask: found {list(mask.shape)} with {int((mask == 0).sum())} zeros, "
            f"expected {list(tokens.shape)} of ones; run rows of different lengths apart"
        )


def _as_array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise EdgeError(f"{name}: is not an array: {first_line(error)}") from error


def _typed(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    kind = np.dtype(dtype).kind
    kinds = "iub" if kind in "iu" else kind
    if array.dtype.kind not in kinds:
        raise EdgeError(f"{name}: found {array.dtype}, expected {dtype}")
    return np.ascontiguousarray(array, dtype=np.dtype(dtype)).reshape(array.shape)


def _check_shape(
    name: str, found: tuple[int, ...], expected: Sequence[int | str], sizes: dict[str, int]
) -> None:
    """Compare a shape with the manifest's; `sizes` collects what each named axis measures."""
    if len(found) != len(expected):
        raise EdgeError(f"{name}: found {len(found)} axes {list(found)}, expected {list(expected)}")
    for axis, size in zip(expected, found, strict=True):
        want = axis if isinstance(axis, int) else sizes.setdefault(axis, size)
        if size != want or size == 0:
            raise EdgeError(
                f"{name}: found shape {list(found)}, expected {axis}={want or 'at least 1'}"
            )


def check_graph(
    folder: Path, session: ort.InferenceSession, expected: set[str], outputs: Iterable[str] = ()
) -> None:
    """Raise EdgeError unless the graph has the manifest's inputs alone, and its outputs."""
    found = {node.name for node in session.get_inputs()}
    missing = {*outputs} - {node.name for node in session.get_outputs()}
    for what, odd in (("inputs", found ^ expected), ("outputs", missing)):
        if odd:
            names = ", ".join(sorted(odd))
            raise EdgeError(f"{folder}: graph and manifest disagree on {what}: {names}")


def open_session(
    folder: Path, manifest: Mapping[str, Any], threads: int | None, graph: str = GRAPH
) -> ort.InferenceSession:
    """Open a bundle's graph for the CPU, or another ONNX graph of its files.

    Raises:
        EdgeError: the manifest is ill-formed, onnxruntime is too old or cannot open the graph, or
            that reads data that is not its own.
    """
    check_entries(folder, manifest)
    minimum = manifest.get("min_onnxruntime")
    if minimum and _version(ort.__version__) < _version(minimum):
        raise EdgeError(
            f"{folder}: found onnxruntime {ort.__version__}, expected {minimum} or newer; "
            f'pip install "onnxruntime>={minimum}"'
        )
    if threads is not None and threads < 1:
        raise EdgeError(f"threads: found {threads}, expected at least 1")
    options = session_options(manifest, threads)
    path = str(model_path(folder, manifest, graph))
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes share no public base
        raise EdgeError(f"{folder}: onnxruntime cannot open it: {first_line(error)}") from error


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def first_line(error: Exception) -> str:
    """Return what an error of a library says, without the rest."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
