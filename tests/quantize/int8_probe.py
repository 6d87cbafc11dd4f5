"""Run models with and without onnxruntime's protection from saturation; save both outputs.

    python int8_probe.py JOBS.json

JOBS.json lists {"model", "inputs": .npz, "outputs": .npz}. A script of its own: it also runs
under an emulated processor.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def run(model: str, inputs: dict[str, np.ndarray], precise: bool) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
    return onnxruntime.InferenceSession(model, options).run(None, inputs)


for job in json.loads(Path(sys.argv[1]).read_text()):
    feeds = dict(np.load(job["inputs"]))
    np.savez(job["outputs"], *run(job["model"], feeds, False), *run(job["model"], feeds, True))
