"""Every runner behind one question: how does it answer to this bundle?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge_lra import Runner
from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.golden import check_golden
from tests.runtime.android.probe import Probe
from tests.runtime.cpp import abi
from tests.runtime.js.hosts import Node, Refused

Arrays = Mapping[str, np.ndarray]
Answer = str | dict[str, list[Any]]  # the code of a refusal, or the outputs as nested lists
REFUSED = "refused"  # of Python, whose errors have no codes


@dataclass(frozen=True)
class Question:
    """What a runner is asked.

    Attributes:
        folder: the bundle.
        inputs: of a run.
        adapter: of the run.
        verify: once, always or never.
        golden: whether the golden cases are asked for in place of a run.
    """

    folder: Path
    inputs: Arrays
    adapter: str | None = "one"
    verify: str = "always"
    golden: bool = False


class Answers(Protocol):
    """A runner."""

    def __call__(self, question: Question) -> Answer:
        """Open the bundle and run it."""


def ask_python(question: Question) -> Answer:
    """Ask the reference."""
    try:
        if question.golden:
            Runner.load(question.folder, threads=1, verify=question.verify)
            check_golden(question.folder, load_manifest(question.folder))
            return {}
        runner = Runner.load(question.folder, threads=1, verify=question.verify)
        return _lists(runner.run(question.inputs, adapter=question.adapter))
    except EdgeError as error:
        assert "\n" not in str(error)
        return REFUSED


def ask_cpp(question: Question) -> Answer:
    """Ask the C interface."""
    choices = {"once": abi.ONCE, "always": abi.ALWAYS, "never": abi.NEVER}
    try:
        runner = abi.Bundle(question.folder, threads=1, verify=choices[question.verify])
        try:
            if question.golden:
                runner.verify()
                return {}
            return _lists(runner.run(question.inputs, question.adapter))
        finally:
            runner.close()
    except abi.Refused as refused:
        assert "\n" not in refused.line
        return refused.code


def ask_node(node: Node) -> Answers:
    """Return what asks the runner for JavaScript."""

    def ask(question: Question) -> Answer:
        load = {"verify": question.verify}
        inputs = {
            name: {"type": str(array.dtype), "dims": array.shape, "data": array.ravel().tolist()}
            for name, array in question.inputs.items()
        }
        call = ("run", inputs, {"adapter": question.adapter})
        try:
            found = node.call(
                question.folder, ("checkGolden",) if question.golden else call, load=load
            )[0]
        except Refused as refused:
            assert refused.name == "EdgeError" and "\n" not in refused.message, refused.text
            return str(refused.code)
        if question.golden:
            return {} if found["passed"] else "gate_failed"
        return {name: np.reshape(one["data"], one["dims"]).tolist() for name, one in found.items()}

    return ask


def ask_java(probe: Probe) -> Answers:
    """Return what asks the runner for Android."""

    def ask(question: Question) -> Answer:
        loaded = probe.ask(
            "load",
            bundle=str(question.folder),
            verify=question.verify.upper(),
            stamps=str(question.folder.parent / "stamps"),
        )
        if "code" in loaded:
            assert "\n" not in loaded["message"]
            return str(loaded["code"]).lower()
        runner = loaded["runner"]
        if question.golden:
            found = probe.ask("golden", runner=runner)
        else:
            found = probe.run(runner, question.inputs, adapter=question.adapter)
        probe.ask("close", runner=runner)
        if "code" in found:
            assert "\n" not in found["message"]
            return str(found["code"]).lower()
        return {} if question.golden else _lists(found)

    return ask


def _lists(arrays: Arrays) -> dict[str, list[Any]]:
    return {name: np.asarray(value).tolist() for name, value in arrays.items()}
