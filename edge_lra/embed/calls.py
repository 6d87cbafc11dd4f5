"""The lines of code that call an embedded bundle, for its task and its adapters."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

# Task -> how a runner is asked; a platform without the first takes the next it has.
USES: Mapping[str, Sequence[str]] = {
    "sequence-classification": ("classify", "tokens"),
    "sentence-embedding": ("embed", "tokens"),
    "text-generation": ("generate",),
}
TOKENS = {"input_ids", "attention_mask"}


class Call(NamedTuple):
    """How an app calls its bundle.

    Attributes:
        language: of the code, as Markdown names it.
        setup: what to do to the app's build first, in Markdown.
        code: a whole file, or what stands in one.
    """

    language: str
    setup: str
    code: str


@cache
def _texts() -> dict[str, dict[str, str]]:
    text = files("edge_lra.embed").joinpath("calls.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def call_of(
    platform: str,
    manifest: Mapping[str, Any],
    bundle: str,
    place: str,
    adapters: str | None = None,
) -> Call:
    """Return the code for a platform.

    Args:
        platform: its name.
        manifest: the bundle's.
        bundle: the name of its folder.
        place: where the folder lies in the app's tree.
        adapters: where what an update replaces lies, of a split bundle.
    """
    texts = _texts()[platform]
    opening = "open_split" if adapters and "open_split" in texts else "open"
    parts = [
        opening,
        *(["adapter"] if manifest["adapters"] else []),
        _use(texts, manifest),
        "close",
    ]
    names = {
        "@BUNDLE@": bundle,
        "@PLACE@": place,
        "@UPDATE@": (adapters or "").rpartition("/")[2],
        "@UPDATE_PLACE@": adapters or "",
        "@ADAPTER@": next(iter(manifest["adapters"]), ""),
        "@INPUTS@": f"inputs: {_inputs(manifest)}",
    }
    code, setup = "".join(texts[part] for part in parts), texts["setup"]
    for placeholder, value in names.items():
        code, setup = code.replace(placeholder, value), setup.replace(placeholder, value)
    return Call(texts["language"], setup.strip("\n"), code)


def _use(texts: Mapping[str, str], manifest: Mapping[str, Any]) -> str:
    """Return the use that a platform has for a bundle's task and inputs."""
    required = {node["name"] for node in manifest["inputs"]} - {"token_type_ids"}
    plain = ("tokens",) if required == TOKENS else ()
    wanted = [*USES.get(manifest["task"], ()), *plain, "arrays"]
    use: str = next(use for use in wanted if use in texts)
    return use


def _inputs(manifest: Mapping[str, Any]) -> str:
    """Describe the inputs of a run in one line."""
    return ", ".join(
        f"{node['name']} {node['dtype']}[{', '.join(map(str, node['shape']))}]"
        for node in manifest["inputs"]
    )
