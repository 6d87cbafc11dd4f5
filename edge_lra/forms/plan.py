"""A plan: the form of each linear of an encoder, and the file that holds it."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.quantize.schemes import FORMS, USUAL

VERSION = 1
MOST = sys.float_info.max  # a manifest's JSON knows no infinity
TITLE = "# Forms of an encoder's linears, for `edge-lra export --plan`; int8 where none is named."
LIMITS = {
    "error": "relative L2 error of the last layer's output on text that does not calibrate",
    "time": "time of all linears, as a multiple of what it is in int8",
    "size_mib": "MiB of the weights' file",
}


@dataclass(frozen=True)
class FormPlan:
    """Which linears of an encoder are not int8.

    Attributes:
        forms: a key of `FORMS` by module, as the checkpoint names it; others are int8.
        device: where times were measured; None where nothing was.
        tokens: of the text whose products were timed; None likewise.
        threads: that multiplied; None likewise.
        limits: that it keeps to, by the names of `LIMITS`.
        expected: what it was expected to have of each of `LIMITS`.
        layers: of the model that it was made for; None where that is not said.
    """

    forms: Mapping[str, str]
    device: str | None = None
    tokens: int | None = None
    threads: int | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)
    layers: int | None = None

    @property
    def by_form(self) -> dict[str, list[str]]:
        """The modules of each form but int8, in the order in which they are named."""
        others = [form for form in FORMS if form != USUAL]
        return {f: [m for m, own in self.forms.items() if own == f] for f in others}

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and TOML."""
        limits, expected = dict(self.limits), dict(self.expected)
        return {**asdict(self), "forms": self.by_form, "limits": limits, "expected": expected}


def read_plan(file: Path) -> FormPlan:
    """Read a plan's TOML; only `[forms]` has to be there.

    Raises:
        EdgeError: the file is missing, no TOML, or says something that is not known.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EdgeError(f"{file}: {error.strerror}; make it with `edge-lra plan`") from None
    except (ValueError, RecursionError) as error:
        raise EdgeError(f"{file}: found {error}, expected TOML in UTF-8") from None
    version = values.pop("schema_version", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise EdgeError(f"{file}: schema_version: found {version!r}, expected {VERSION}")
    return parse_plan(values, str(file))


def parse_plan(values: Mapping[str, Any], where: str) -> FormPlan:
    """Return the plan that plain values are, of a file or of a manifest.

    Raises:
        EdgeError: a key or a value is not known; `where` is named.
    """
    known = FormPlan({}).as_dict()
    _check_keys(where, values, known)
    if not isinstance(values.get("forms"), dict):
        raise EdgeError(f"{where}: found no [forms], expected lists of modules by form")
    forms: dict[str, str] = {}
    _check_keys(f"{where}: forms", values["forms"], [form for form in FORMS if form != USUAL])
    for form, modules in values["forms"].items():
        if not isinstance(modules, list) or not all(isinstance(m, str) and m for m in modules):
            raise EdgeError(f"{where}: forms.{form}: found {modules!r}, expected a list of modules")
        for module in modules:
            if module in forms:
                raise EdgeError(f"{where}: forms: found {module} twice, expected one form of each")
            forms[module] = form
    device = values.get("device")
    if device is not None and not isinstance(device, str):
        raise EdgeError(f"{where}: device: found {device!r}, expected a name")
    return FormPlan(
        forms,
        device,
        _count(f"{where}: tokens", values.get("tokens")),
        _count(f"{where}: threads", values.get("threads")),
        _numbers(f"{where}: limits", values.get("limits", {})),
        _numbers(f"{where}: expected", values.get("expected", {})),
        _count(f"{where}: layers", values.get("layers")),
    )


def write_plan(plan: FormPlan) -> str:
    """Return a plan as the text of its file."""
    values = plan.as_dict()
    lines = [TITLE, f"schema_version = {VERSION}"]
    for key in ("layers", "device", "tokens", "threads"):
        if values[key] is not None:
            lines.append(f"{key} = {json.dumps(values[key], ensure_ascii=False)}")
    lines += ["", "[forms]"]
    for form, modules in values["forms"].items():
        names = [f"  {json.dumps(module, ensure_ascii=False)}," for module in modules]
        lines += [f"{form} = [", *names, "]"] if names else [f"{form} = []"]
    for key in ("limits", "expected"):
        lines += ["", f"[{key}]", *(f"{name} = {number!r}" for name, number in values[key].items())]
    return "\n".join(lines) + "\n"


def _check_keys(where: str, found: Mapping[str, Any], known: Collection[str]) -> None:
    for key in found:
        if key not in known:
            raise EdgeError(f"{where}: found {key!r}, expected one of {', '.join(known)}")


def _count(where: str, value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 1):
        raise EdgeError(f"{where}: found {value!r}, expected a count")
    return value


def _numbers(where: str, values: Any) -> dict[str, float]:
    if not isinstance(values, dict):
        raise EdgeError(f"{where}: found {values!r}, expected a table of numbers")
    _check_keys(where, values, LIMITS)
    for key, number in values.items():
        usual = isinstance(number, int | float) and not isinstance(number, bool)
        if not usual or not 0 <= number <= MOST:
            raise EdgeError(f"{where}.{key}: found {number!r}, expected a number of 0 or more")
    return {key: float(number) for key, number in values.items()}
