"""Every class of value that a field of PEFT's configs may have, and what is done with it.

The classes come from the fields' types: each word of a Literal, true and false, null, a number, a
text, a list, a dict, a config of its own.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edge_lra.adapters.kinds import METHODS
from edge_lra.errors import EdgeError
from tests.adapters.matrix import CONFIGS, Case

# Fields whose type is any text, and the words that PEFT takes.
WORDS = {
    ("VERA", "bias"): ("none", "all", "vera_only"),
    ("BOFT", "bias"): ("none", "all", "boft_only"),
}
# An honoured list or dict that is read is one of these; all others are lists and dicts of names.
SAMPLES: dict[tuple[str, str], Any] = {
    ("trainable_token_indices", "a list"): [1],
    ("trainable_token_indices", "a dict"): {"embed": [1]},
    ("rank_pattern", "a dict"): {"query": 2},
    ("alpha_pattern", "a dict"): {"query": 2},
}
GENERAL: dict[str, Any] = {
    "null": None, "true": True, "false": False, "a number": 2, "a text": "text",
    "a list": ["text"], "a dict": {"text": 1}, "{}": {}, "settings": {"text": 1},
}  # fmt: skip
# They say which file this is: any value is one class.
NAMES = ("base_model_name_or_path", "peft_type", "task_type")
# PEFT's own code fails with a null here, whatever the type says.
NEVER_NULL = ("alpha_pattern", "rank_pattern")


@dataclass(frozen=True)
class Value:
    """A class of value of one field.

    Attributes:
        label: how it is written.
        said: "honoured", "inert" or "refused".
        default: whether a config without the field means it.
    """

    kind: str
    option: str
    label: str
    said: str
    default: bool

    def shown_by(self, cases: Sequence[Case]) -> int:
        """Return in how many cases the field has such a value."""
        own = [case for case in cases if case.kind == self.kind]
        words = words_of(self.kind, self.option)
        given = [label_of(c.options[self.option], words) for c in own if self.option in c.options]
        unsaid = len(own) - len(given) if self.default else 0
        return unsaid + given.count(self.label)


def values(kind: str, option: str) -> list[Value]:
    """Return the classes of a field's values."""
    (field,) = (f for f in dataclasses.fields(CONFIGS[kind]) if f.name == option)
    words = words_of(kind, option)
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    unsaid = label_of(default, words)
    # typing keeps one of two equal unions: their order is that of the first that was imported.
    labels = [*words, *sorted(set(_labels(_hint(kind, option))), key=list(GENERAL).index)]
    if option in NAMES:
        return [Value(kind, option, "a name", verdict(kind, option, "a text"), True)]
    if words:
        labels = [label for label in labels if label != "a text"]
    if unsaid not in labels:
        labels.append(unsaid)
    if option in NEVER_NULL:
        labels.remove("null")
    return [
        Value(kind, option, label, verdict(kind, option, label), label == unsaid)
        for label in labels
    ]


def verdict(kind: str, option: str, label: str) -> str:
    """Return what is done with a class of value: by the rules, or by whether a config is read."""
    method = METHODS[kind]
    said = method.rules.says(option)
    assert said is not None
    if option in NAMES:
        return said
    value = SAMPLES.get((option, label), GENERAL.get(label, label.split("[")[0]))
    try:
        method.rules.check({option: value}, "config")
        method.parse({option: value}, "config")
    except EdgeError as error:
        assert option in str(error)
        return "refused"
    return "inert" if said == "refused" else said  # the value that asks for nothing


def label_of(value: object, words: Sequence[str]) -> str:
    """Return the class of a value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return next((w for w in words if value.startswith(w.split("[")[0])), "a text")
    if value is None or value == {}:
        return "null" if value is None else "{}"
    names: dict[type, str] = {int: "a number", float: "a number", list: "a list", dict: "a dict"}
    return names.get(type(value), "settings")


def words_of(kind: str, option: str) -> tuple[str, ...]:
    """Return the words a field knows; of two that begin alike, the longer first."""
    words = [
        word
        for part in _parts(_hint(kind, option))
        if typing.get_origin(part) is typing.Literal
        for word in typing.get_args(part)
    ]
    return WORDS.get((kind, option), tuple(sorted(words, reverse=True)))


def _hint(kind: str, option: str) -> Any:
    return typing.get_type_hints(CONFIGS[kind])[option]


def _parts(hint: Any) -> tuple[Any, ...]:
    united = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if united else (hint,)


def _labels(hint: Any) -> Iterator[str]:
    for part in _parts(hint):
        plain = typing.get_origin(part) or part
        if plain is bool:
            yield from ("true", "false")
        elif plain in (int, float):
            yield "a number"
        elif dataclasses.is_dataclass(plain):
            yield "settings"
        elif plain is not typing.Literal and not issubclass(plain, enum.Enum):
            names = {str: "a text", list: "a list", dict: "a dict", type(None): "null"}
            yield names[plain]
