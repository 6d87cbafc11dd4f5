"""Golden vectors: what every runner of a bundle must answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import save

from edge_lra.errors import EdgeError, GateError
from edge_lra.runner import Generator, Runner
from edge_lra.runner.tensors import read_tensors

Arrays = dict[str, npt.NDArray[Any]]
NAME = "golden.safetensors"
COUNT = 8  # cases an adapter
# int8 roundings may flip between CPUs' float kernels; the float model is the judge then. Where
# kernels themselves differ, a scheme's `kernel_spread` is added.
SLACK = 1.5
ROUNDING = 1e-4  # of float32 in a bundle without int8
NEXT = "next_tokens"
KINDS = ("input", "output", "float")
CHOICES = ("logits", "start_logits", "end_logits")  # outputs whose largest entry is the answer


class Greedy(NamedTuple):
    """What a language model's bundle goes on with after a prompt, taking the likeliest token.

    Attributes:
        tokens: (steps,) int64.
        margins: (steps,) float32, each token's logit less the next smaller one.
    """

    tokens: npt.NDArray[Any]
    margins: npt.NDArray[Any]


class Case(NamedTuple):
    """One batch: the adapter, the token inputs, the bundle's and the float model's outputs.

    A language model's is a prompt, the logits of its last token, and what greedily follows.
    """

    adapter: str | None
    inputs: Arrays
    outputs: Arrays
    exact: Arrays
    greedy: Greedy | None = None


def write_golden(folder: Path, cases: Sequence[Case], kernel_spread: float) -> dict[str, Any]:
    """Write the cases; return the manifest's entry, with the scheme's spread."""
    tensors = {
        f"{kind}.{index}.{name}": np.ascontiguousarray(value)
        for index, case in enumerate(cases)
        for kind, arrays in zip(KINDS, case[1:4], strict=True)
        for name, value in arrays.items()
    }
    for index, case in enumerate(cases):
        if case.greedy is not None:
            tensors[f"greedy.{index}.tokens"], tensors[f"greedy.{index}.margins"] = case.greedy
    (folder / NAME).write_bytes(save(tensors))
    return golden_entry([case.adapter for case in cases], kernel_spread)


def golden_entry(adapters: Sequence[str | None], kernel_spread: float) -> dict[str, Any]:
    """Return the manifest's entry for cases with these adapters; none without verification."""
    return {"count": len(adapters), "adapters": list(adapters), "kernel_spread": kernel_spread}


def read_golden(folder: Path, manifest: dict[str, Any]) -> list[Case]:
    """Return a bundle's cases; none if it was not verified.

    Raises:
        EdgeError: the file is missing or damaged, or a case is not whole.
    """
    adapters = manifest["golden"]["adapters"]
    tensors = _read(folder / NAME) if adapters else {}

    def arrays(prefix: str) -> Arrays:
        return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}

    def greedy(index: int) -> Greedy | None:
        found = arrays(f"greedy.{index}.")
        return Greedy(**found) if found.keys() == set(Greedy._fields) else None

    cases = [
        Case(adapter, given, outputs, exact, greedy(index))
        for index, adapter in enumerate(adapters)
        for given, outputs, exact in [[arrays(f"{kind}.{index}.") for kind in KINDS]]
    ]
    if not all(map(_is_whole, cases)):
        raise EdgeError(
            f"{folder / NAME}: found a case without its inputs or answers; export again"
        )
    return cases


def _read(file: Path) -> Arrays:
    try:
        return read_tensors(file.read_bytes())
    except (OSError, SafetensorError) as error:
        raise EdgeError(f"{file} cannot be read: {error}") from error


def _is_whole(case: Case) -> bool:
    """Say whether a case has inputs, and the float model's answer to each of the bundle's."""
    shapes = [{n: a.shape for n, a in arrays.items()} for arrays in (case.outputs, case.exact)]
    greedy = case.greedy is None or case.greedy.tokens.shape == case.greedy.margins.shape
    return bool(case.inputs and case.outputs) and shapes[0] == shapes[1] and greedy


@dataclass(frozen=True)
class Comparison:
    """How far answers to the golden cases are from the recorded ones.

    Attributes:
        max_abs_error: the largest distance from the outputs recorded at export.
        max_abs_error_float: the largest distance from the float model's.
        recorded_error_float: what that was at export.
        kernel_spread: what kernels of other processors and releases may add to that: the scheme's
            share of the float model's largest output.
        decided: best labels that the float model chooses by more than the allowed error; of a
            language model also the next tokens that the bundle chose so at export.
        agreed: of them, those that the answers choose too.
    """

    cases: int = 0
    max_abs_error: float = 0.0
    max_abs_error_float: float = 0.0
    recorded_error_float: float = 0.0
    kernel_spread: float = 0.0
    decided: int = 0
    agreed: int = 0

    @property
    def allowed_error_float(self) -> float:
        """The distance from the float model that an answer may have."""
        return SLACK * self.recorded_error_float + self.kernel_spread + ROUNDING

    @property
    def is_close(self) -> bool:
        """Whether no answer is further from the float model than allowed; NaN is not."""
        return self.max_abs_error_float <= self.allowed_error_float


def check_golden(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Run the golden cases and compare with the outputs recorded at export.

    Returns:
        cases, the largest difference from the recorded outputs and from the float model's.

    Raises:
        GateError: an answer is further from the float model than the bundle was at export, with
            the slack and the scheme's spread.
    """
    cases = read_golden(path, manifest)
    found = Comparison()
    if cases:
        found = compare(cases, run_cases(path, manifest, cases), manifest)
    if not found.is_close:
        raise GateError(
            f"{path}: found answers {found.max_abs_error_float:.3g} from the float model, expected "
            f"at most {found.allowed_error_float:.3g} (it was {found.recorded_error_float:.3g} at "
            "export); do not ship it on this machine"
        )
    if manifest.get("decoder") and found.agreed < found.decided:
        raise GateError(
            f"{path}: found other tokens than at export at {found.decided - found.agreed} of "
            f"{found.decided} places where one is clearly the likeliest, expected the same; do "
            "not ship it on this machine"
        )
    return {
        "cases": found.cases,
        "max_abs_error": found.max_abs_error,
        "max_abs_error_float": found.max_abs_error_float,
    }


def run_cases(
    folder: Path, manifest: Mapping[str, Any], cases: Sequence[Case], threads: int | None = None
) -> list[Arrays]:
    """Return a bundle's outputs of every case, each with its adapter or with none.

    Of a language model also the `next_tokens` (steps,), each found after the recorded ones.
    """
    if manifest.get("decoder"):
        with Generator.load(folder, threads, verify="never") as generator:
            return [_run_prompt(generator, case) for case in cases]
    runner = Runner.load(folder, threads, verify="never")
    return [
        runner.run(case.inputs, adapter=case.adapter if runner.adapters else None) for case in cases
    ]


def _run_prompt(generator: Generator, case: Case) -> Arrays:
    cache = generator.cache(adapter=case.adapter if generator.adapters else None)
    logits = cache.prefill(case.inputs["input_ids"][0]).copy()
    found = {"logits": logits[None, None]}
    if case.greedy is not None:
        tokens = [int(logits.argmax())]
        tokens += [int(cache.step([token])[0].argmax()) for token in case.greedy.tokens[:-1]]
        found[NEXT] = np.array(tokens)
    return found


def compare(
    cases: Sequence[Case], outputs: Sequence[Arrays], manifest: Mapping[str, Any]
) -> Comparison:
    """Hold a run's outputs, a case an entry, against the golden cases."""
    own, exact, recorded, largest = [0.0], [0.0], [0.0], [0.0]
    for case, found in zip(cases, outputs, strict=True):
        for name, recorded_value in case.outputs.items():
            value = found.get(name)
            if value is None or value.shape != recorded_value.shape:
                raise EdgeError(
                    f"{NAME}: {name}: found an answer of {list(recorded_value.shape)}, expected an "
                    "output of the graph in its shape; export again"
                )
            own.append(_distance(value, recorded_value))
            exact.append(_distance(value, case.exact[name]))
            recorded.append(_distance(case.outputs[name], case.exact[name]))
            largest.append(float(np.abs(case.exact[name]).max()))
    # Bundles written before a scheme had a spread of its own keep the check they came with.
    share = float(manifest["golden"].get("kernel_spread", 0.0))
    worst = Comparison(
        len(cases),
        float(np.max(own)),
        float(np.max(exact)),
        float(np.max(recorded)),
        share * max(largest),
    )
    decided = agreed = 0
    for case, found in zip(cases, outputs, strict=True):
        for true, value in _choices(case, found, manifest.get("problem_type")):
            top = np.sort(true, axis=-1)
            clear = top[:, -1] - top[:, -2] > worst.allowed_error_float
            same = true.argmax(-1) == value.argmax(-1)
            decided += int(clear.sum())
            agreed += int((clear & same).sum())
        if case.greedy is not None:
            clear = case.greedy.margins > worst.allowed_error_float
            decided += int(clear.sum())
            agreed += int((clear & (found[NEXT] == case.greedy.tokens)).sum())
    return replace(worst, decided=decided, agreed=agreed)


def _choices(
    case: Case, found: Arrays, problem_type: str | None
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Yield (rows, choices) of the float model and of a run: labels, or places of an answer.

    Where labels are independent, each is a choice between its logit and zero.
    """
    if problem_type == "regression":
        return
    for name in CHOICES:
        if name not in case.exact:
            continue
        true, value = (x.reshape(-1, x.shape[-1]) for x in (case.exact[name], found[name]))
        if problem_type == "multi_label_classification":
            true, value = (np.stack([x.ravel(), np.zeros(x.size)], -1) for x in (true, value))
        if true.shape[-1] > 1:
            yield true, value


def _distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.abs(a - b).max())
