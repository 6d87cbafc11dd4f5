"""Find the data folders, in a checkout or inside an installed wheel."""

from __future__ import annotations

from pathlib import Path


def data_folder(kind: str) -> Path:
    """Return the folder of data files named `kind`, such as "export" or "devices"."""
    package = Path(__file__).resolve().parent
    installed = package / "data" / kind
    return installed if installed.is_dir() else package.parent / kind
