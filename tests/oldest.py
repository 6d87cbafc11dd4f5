"""An older onnxruntime than the installed one, from where `make test` puts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import edge_lra

ROOT = Path(edge_lra.__file__).parents[1]


def run_in(release: str, script: str, bundle: Path) -> dict[str, Any]:
    """Return what a script prints of a bundle as JSON, its `version` held to be the release."""
    library = ROOT / ".cache" / f"onnxruntime-{release}"
    assert library.is_dir(), f"found no {library}, expected that onnxruntime; run make test"
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(library), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["version"] == release
    return found
