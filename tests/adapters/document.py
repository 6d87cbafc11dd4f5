"""Write docs/adapters.md from the table that is tested: `python -m tests.adapters.document`."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path

from peft.utils.peft_types import PeftType

from edge_lra.adapters.kinds import METHODS
from tests.adapters.matrix import CONFIGS, Case, cases
from tests.adapters.values import Value, values

VERDICTS = ("honoured", "inert", "refused")
INTRODUCTION = """# Which adapters are read

Every option of PEFT's configs, by the values it may have, is honoured, has no effect on a trained
adapter (inert), or is refused by its name. The tables are written from the tests that hold each
against PEFT (`python -m tests.adapters.document`): merged weights within 1e-6 of `merge_and_unload`
in float32 (DoRA, OFT and BOFT 1e-5), factors beside the base within 1e-5 of the unmerged model.

A number says in how many of those adapters an option has a value. Where PEFT merges an adapter into
a weight that embedding and head share, both change; its unmerged model adapts one. Here the two
part.
"""
LAYERS_TEXT = """
## Two fully connected layers

The classical adapter (Houlsby, Pfeiffer, parallel), as `edge-lra tune` writes it: a folder with
`adapter_config.json`

    {"adapter_type": "low-rank-layers", "format_version": 1, "kind": "serial-residual",
     "activation": "linear", "rank": 8, "scale": 1.0, "sites": ["encoder.layer.0.output.dense"],
     "task_type": "SEQ_CLS", "base_model_name_or_path": "...", "modules_to_save": ["classifier"]}

and `adapter_model.safetensors` with `SITE.adapter_down.weight` (rank, in),
`SITE.adapter_down.bias`, `SITE.adapter_up.weight` (out, rank), `SITE.adapter_up.bias`, and whole
tensors by their own names.
With x the module's input, y its output and a one of linear, relu, gelu, silu, tanh:

| kind | output | merged, where a is linear |
|---|---|---|
| `serial` | s (U a(D y + c) + u) | W' = s U D W, b' = s (U (D b + c) + u) |
| `serial-residual` | y + s (U a(D y + c) + u) | W' = W + s U D W, b' = b + s (U (D b + c) + u) |
| `parallel` | y + s (U a(D x + c) + u) | W' = W + s U D, b' = b + s (U c + u) |

With an activation no weight does the same: `--merge` refuses it, `--factored` keeps both layers.
"""


def document() -> str:
    """Return docs/adapters.md."""
    every = list(cases())
    parts = [INTRODUCTION, _places(every)]
    for kind, config in CONFIGS.items():
        own = [case for case in every if case.kind == kind]
        lines = [f"\n## {kind}\n", f"| option | {' | '.join(VERDICTS)} |", "|---|---|---|---|"]
        for option in sorted(field.name for field in dataclasses.fields(config)):
            found = values(kind, option)
            cells = [_cell([v for v in found if v.said == said], own) for said in VERDICTS]
            lines.append(f"| `{option}` | {' | '.join(cells)} |")
        parts.append("\n".join(lines) + "\n")
    refused = sorted({str(kind.value) for kind in PeftType} - METHODS.keys())
    text = textwrap.fill(f"Refused by `peft_type`: {', '.join(refused)}.", 100)
    return "".join([*parts, f"\n{text}\n", LAYERS_TEXT])


def _cell(found: list[Value], own: list[Case]) -> str:
    counts = [(v.label, v.shown_by(own) if v.said == "honoured" else 0) for v in found]
    return ", ".join(f"{label} ({count})" if count else label for label, count in counts)


PLACES = {
    "embeddings": ("embed", "wte", "relative_attention_bias"),
    "convolutions": ("projection", "conv_layers"),
}


def _place(case: Case) -> str:
    targets = str(case.options.get("target_modules"))
    if case.family == "gpt2" and "wte" not in targets:
        return "Conv1D (in, out)"
    return next((p for p, names in PLACES.items() if any(n in targets for n in names)), "linears")


def _places(every: list[Case]) -> str:
    columns = ("linears", "Conv1D (in, out)", "embeddings", "convolutions")
    lines = [f"| tests | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for kind in CONFIGS:
        counts = [sum(c.kind == kind and _place(c) == place for c in every) for place in columns]
        lines.append(f"| {kind} | {' | '.join(str(n or '') for n in counts)} |")
    kept = sum(case.factored for case in every)
    families = sorted({case.family for case in every})
    return (
        "\n"
        + "\n".join(lines)
        + (
            f"\n\n{len(every)} adapters in all, {kept} of them as factors too, on "
            f"{', '.join(families)}.\n"
        )
    )


if __name__ == "__main__":
    Path("docs/adapters.md").write_text(document(), encoding="utf-8")
