"""What a folder or a file holds that could be an adapter: settings, and files by their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.places import ADAPTER_CONFIG
from edge_lra.tensor_files import TensorFile, open_tensor_file, read_config

TENSOR_SUFFIXES = (".safetensors", ".bin", ".pt", ".ckpt")
# A trainer leaves other pickles beside an adapter (optimizer.pt): only these are opened.
PICKLE = re.compile(r"(pytorch_)?(adapter|lora)\w*\.(bin|pt|ckpt)")
# Earlier steps that mlx-lm keeps beside the last one.
STEP = re.compile(r"\d+_adapters\.safetensors")


class Place:
    """A folder or a single file, its tensors' names read once and no tensor data."""

    def __init__(self, path: Path) -> None:
        """Take a path.

        Raises:
            EdgeError: there is nothing.
        """
        self.path = path.expanduser()
        self.failures: dict[Path, EdgeError] = {}
        if not self.path.exists():
            raise EdgeError(
                f"{self.path}: found no such folder or file, expected an adapter; check the path"
            )

    @property
    def folder(self) -> Path:
        """The folder itself, or the one the file is in."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def config_file(self) -> Path:
        """Where settings would stand."""
        return self.folder / ADAPTER_CONFIG

    @cached_property
    def config(self) -> dict[str, Any]:
        """What adapter_config.json says; empty where there is none.

        Raises:
            EdgeError: it is damaged.
        """
        return read_config(self.config_file, unique=True) if self.config_file.is_file() else {}

    @cached_property
    def entries(self) -> tuple[Path, ...]:
        """The files, by name."""
        if self.path.is_file():
            return (self.path,)
        return tuple(sorted(path for path in self.path.iterdir() if path.is_file()))

    @cached_property
    def files(self) -> Mapping[Path, TensorFile]:
        """Files of tensors that could be an adapter's; what cannot be opened is in `failures`."""
        found = {}
        for path in self.entries:
            if path.suffix not in TENSOR_SUFFIXES or STEP.fullmatch(path.name):
                continue
            pickled = path.suffix != ".safetensors"
            if pickled and self.path.is_dir() and not PICKLE.fullmatch(path.name):
                continue
            try:
                found[path] = open_tensor_file(path)
            except EdgeError as error:
                self.failures[path] = error
        return found

    def holding(self, pattern: re.Pattern[str]) -> list[TensorFile]:
        """Return the files with a tensor whose name has a pattern somewhere."""
        files = self.files.values()
        return [file for file in files if any(map(pattern.search, file.tensors))]

    def with_suffix(self, suffix: str) -> list[Path]:
        """Return the files of a suffix."""
        return [path for path in self.entries if path.suffix == suffix]


def only(place: Place, found: Iterable[Path], title: str) -> Path:
    """Return the one file of a format.

    Raises:
        EdgeError: there are several.
    """
    files = sorted(found)
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise EdgeError(
            f"{place.path}: found {len(files)} files of {title} ({names}), expected one; "
            f"give the file, such as {files[-1]}"
        )
    return files[0]
