"""A project to start from: settings, a trained adapter and labelled text."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_lra.errors import EdgeError

SOURCE = Path(__file__).parent / "samples"
FILES = (
    "edge-lra.toml",
    "reviews.tsv",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
)


def write_sample(folder: Path) -> list[Path]:
    """Write the sample project into a folder, which may exist; return the files.

    Raises:
        EdgeError: one of the files is there already; nothing is written.
    """
    targets = {folder / name: SOURCE / name for name in FILES}
    for target in targets:
        if target.exists():
            raise EdgeError(f"{target}: found a file, expected none; choose another folder")
    for target, source in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return list(targets)
