"""Read a request as JSON from standard input and write the answer as JSON to standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from edge_lra.errors import EdgeError

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]


def _from(module: str, function: str) -> Answer:
    """Return a function that is imported when it is called.

    A probe answers where onnxruntime is missing, and "measure" times its own imports.
    """

    def call(request: Mapping[str, Any]) -> dict[str, Any]:
        answer: Answer = getattr(import_module(f"edge_lra.agent.{module}"), function)
        return answer(request)

    return call


ANSWERS: dict[str, Answer] = {
    "probe": _from("host", "probe"),
    "measure": _from("measure", "measure"),
    "cold": _from("cold", "measure_cold"),
    "unpacked": _from("unpacked", "measure_unpacked"),
    "operators": _from("operators", "measure_operators"),
    "check": _from("check", "check"),
    "sweep": _from("sweep", "measure_sweep"),
    "graphs": _from("graphs", "measure_graphs"),
    "prepack": _from("prepack", "prepack"),
}


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what the request's `what` names; a user's mistake becomes an `error`."""
    what = str(request.get("what"))
    try:
        if what not in ANSWERS:
            raise EdgeError(
                f"request: found {what!r}, expected one of {', '.join(ANSWERS)}; is the edge-lra "
                "on the device another one than here?"
            )
        return ANSWERS[what](request)
    except EdgeError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
