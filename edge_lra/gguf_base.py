"""A GGUF file as a base model: Hugging Face's names and order of rows, config and tokenizer.

What llama.cpp's convert_hf_to_gguf.py changes is changed back: the rows of rotary queries and keys
(`LlamaModel.permute`), the 1 that Gemma's norms add, the transposed layers of GPT-2.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.gguf_config import FACTORS, find_family, read_model_config
from edge_lra.gguf_file import GgufFile
from edge_lra.quiet import quiet_transformers
from edge_lra.row_order import to_halves
from edge_lra.tensor_files import Array, TensorInfo

SUFFIX = ".gguf"
IGNORED = (FACTORS, ".attn_rot_embd.weight")  # derived from the config


def find_gguf(path: Path) -> Path | None:
    """Return the GGUF file that a path names, or that a folder without other weights holds.

    Raises:
        EdgeError: a folder holds several.
    """
    if path.is_file():
        return path
    files = sorted(path.glob(f"*{SUFFIX}"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise EdgeError(f"{path}: found {names}, expected one GGUF file; give the file's path")
    return files[0] if files else None


class GgufBase:
    """The tensors of a GGUF file under Hugging Face's names, and what else it says of the model."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            EdgeError: it is no model that is known here, or lacks tensors, or has others.
        """
        self.path = path
        self._file = GgufFile(path)
        self._family = find_family(self._file)
        if "token_embd.weight" not in self._file.tensors:
            raise self._missing("token_embd.weight")
        self.config = read_model_config(self._file, self._family)
        self._sources = self._match()
        self.tensors = {name: self._info(name) for name in self._sources}
        self._turned: tuple[str, Array] | None = None  # the last transposed weight

    @property
    def readable(self) -> frozenset[str]:
        """The types that it reads as float32."""
        return self._file.readable

    def read(self, name: str, start: int, stop: int) -> Array:
        """Return rows start..stop of a tensor as float32, unchecked."""
        source = self._sources[name]
        if self._is_transposed(name):
            return self._transposed(name)[start:stop]
        heads = self._heads(name)
        if heads:
            return self._unpermuted(name, source, heads, start, stop)
        rows = self._file.read(source, start, stop)
        if self._family.norm_offset and source.endswith("norm.weight"):
            return rows - np.float32(self._family.norm_offset)
        return rows

    def write_side_files(self, folder: Path, names: Sequence[str], beside: Path | None) -> None:
        """Write the config, and the tokenizer as transformers converts it.

        Args:
            folder: where to write.
            names: what is wanted.
            beside: a folder whose files are taken before those of the GGUF.
        """
        import json

        for name in names:
            if beside is not None and name != "config.json" and (beside / name).is_file():
                shutil.copyfile(beside / name, folder / name)
        if "config.json" in names:
            text = json.dumps(self.config, indent=2, sort_keys=True) + "\n"
            (folder / "config.json").write_text(text, encoding="utf-8")
        has_tokens = "tokenizer.ggml.tokens" in self._file.metadata
        if has_tokens and "tokenizer.json" in names and not (folder / "tokenizer.json").exists():
            self._write_tokenizer(folder, names)

    def oracle_source(self) -> dict[str, Any]:
        """Return the arguments with which transformers loads the same model.

        It dequantizes by its own code. The config is given: its own reading of the metadata leaves
        out the size of Qwen3's heads, GPT-2's positions and every scaling of rotary positions.
        """
        from transformers import AutoConfig

        config = dict(self.config)
        return {
            "pretrained_model_name_or_path": self.path.parent,
            "gguf_file": self.path.name,
            "config": AutoConfig.for_model(config.pop("model_type"), **config),
        }

    # ---- names -----------------------------------------------------------------------------

    def _match(self) -> dict[str, str]:
        """Return GGUF's name of each tensor by Hugging Face's.

        Raises:
            EdgeError: a weight is missing, or there is one that the family does not have.
        """
        import gguf

        word = self._file.metadata["general.architecture"]
        arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == word)
        layers = self.config.get("num_hidden_layers") or self.config["n_layer"]
        table = gguf.get_tensor_name_map(arch, layers)
        modules = [*self._family.outer]
        modules += [name.format(i=i) for i in range(layers) for name in self._family.layer]
        found = {}
        for module in modules:
            source = table.get_name(module)
            for part in ("weight", "bias"):
                if f"{source}.{part}" in self._file.tensors:
                    found[f"{module}.{part}"] = f"{source}.{part}"
                elif part == "weight" and module != "lm_head":
                    raise self._missing(f"{source}.weight")
        unknown = sorted(set(self._file.tensors) - set(found.values()))
        for name in unknown:
            if not name.endswith(IGNORED):
                raise EdgeError(
                    f"{self.path}: {name}: found a tensor that {self._family.architecture} does "
                    "not have, expected none; such a model is not supported"
                )
        return found

    def _missing(self, name: str) -> EdgeError:
        return EdgeError(
            f"{self.path}: found no tensor {name}, expected it in the file; is it complete, and "
            "no mixture of experts?"
        )

    def _info(self, name: str) -> TensorInfo:
        info = self._file.tensors[self._sources[name]]
        shape = info.shape[::-1] if self._is_transposed(name) else info.shape
        return TensorInfo(name, shape, info.dtype)

    # ---- order -----------------------------------------------------------------------------

    def _is_transposed(self, name: str) -> bool:
        return name.endswith(tuple(f"{part}.weight" for part in self._family.transposed))

    def _transposed(self, name: str) -> Array:
        """Return the whole weight turned to (in, out); the last one is kept for its next rows."""
        if self._turned is None or self._turned[0] != name:
            source = self._sources[name]
            whole = self._file.read(source, 0, self._file.tensors[source].shape[0])
            self._turned = name, np.ascontiguousarray(whole.T)
        return self._turned[1]

    def _heads(self, name: str) -> int:
        """Return how many heads' rows stand in pairs; 0 where rows are as they should be."""
        if not self._family.permuted:
            return 0
        if ".self_attn.q_proj." in name:
            return int(self.config["num_attention_heads"])
        return int(self.config["num_key_value_heads"]) if ".self_attn.k_proj." in name else 0

    def _unpermuted(self, name: str, source: str, heads: int, start: int, stop: int) -> Array:
        """Return rows in halves; whole heads are read for them."""
        count = self.tensors[name].shape[0]
        if count % (2 * heads):
            raise EdgeError(
                f"{self.path}: {source}: found {count} rows, expected an even number for each of "
                f"{heads} heads; the file is damaged, fetch it again"
            )
        size = count // heads
        first, last = start // size, -(-stop // size)
        rows = self._file.read(source, first * size, last * size)
        return to_halves(rows, max(1, last - first))[start - first * size : stop - first * size]

    # ---- tokenizer -------------------------------------------------------------------------

    def _write_tokenizer(self, folder: Path, names: Sequence[str]) -> None:
        """Convert the tokenizer in a scratch folder and take what is wanted."""
        from transformers import AutoTokenizer

        quiet_transformers()
        with TemporaryDirectory() as scratch:
            try:
                options = {"gguf_file": self.path.name, "local_files_only": True}
                AutoTokenizer.from_pretrained(self.path.parent, **options).save_pretrained(scratch)
            except Exception as error:  # of a vocabulary that it does not know, anything
                reason = (str(error).splitlines() or [""])[0] or type(error).__name__
                raise EdgeError(
                    f"{self.path}: found a tokenizer that transformers does not convert "
                    f"({reason:.200}), expected one that it does; put the file and the model's "
                    "tokenizer.json into a folder and give that"
                ) from None
            for name in names:
                if name != "config.json" and (Path(scratch) / name).is_file():
                    shutil.copyfile(Path(scratch) / name, folder / name)
