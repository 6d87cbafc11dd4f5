"""The graph as onnxruntime will run it: its own optimizer rewrites it, the weights stay unread.

Guessing fusions would age with every release. A copy of the graph beside a sparse file of the
weights' length is opened in a process of its own, without prepacking, and the optimizer's result
is written with its weights going nowhere: 0.15 s and 80 MiB for a graph of 24 MB, 0.4 s and
160 MiB for one of 438 MB.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError

MODEL = "model.onnx"
OPTIMIZED = "optimized.onnx"
NOWHERE = "optimized.data"
_PROGRAM = """
import json, sys
import onnxruntime
request = json.load(sys.stdin)
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
options.optimized_model_filepath = request["out"]
for key, value in request["config"].items():
    options.add_session_config_entry(key, value)
onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
"""


def optimize(bundle: Path, session_options: Mapping[str, Any]) -> Any:
    """Return the optimized graph of a bundle, an onnx ModelProto without its large weights.

    Args:
        bundle: the bundle's folder.
        session_options: onnxruntime's configuration entries that the manifest asks for.

    Raises:
        EdgeError: onnxruntime cannot open the graph.
    """
    import onnx

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy_without_weights(bundle, folder)
        config = {key: _entry(value) for key, value in session_options.items()} | {
            "session.disable_prepacking": "1",
            "session.optimized_model_external_initializers_file_name": NOWHERE,
            "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
        }
        request = {"model": str(folder / MODEL), "out": str(folder / OPTIMIZED), "config": config}
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PROGRAM],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise EdgeError(f"{bundle}: onnxruntime cannot optimize it: {reason}")
        return onnx.load(folder / OPTIMIZED, load_external_data=False)


def _entry(value: Any) -> str:
    return str(int(value) if value in (True, False) else value)


def _copy_without_weights(bundle: Path, folder: Path) -> None:
    """Copy the graph; a sparse file of the same length stands in for each file of weights."""
    shutil.copyfile(bundle / MODEL, folder / MODEL)
    for data in bundle.glob(f"{MODEL}.*"):
        with (folder / data.name).open("wb") as file:
            file.truncate(data.stat().st_size)
    # Where no link can be made, the weights' zeros are written and deleted with the folder.
    with contextlib.suppress(OSError, NotImplementedError):
        (folder / NOWHERE).symlink_to(os.devnull)
