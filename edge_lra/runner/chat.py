"""Render a conversation with the bundle's chat template, as transformers does.

`jinja2` is loaded when needed. A template is a stranger's program: it runs in jinja2's sandbox and
sees plain JSON values only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")
Message = Mapping[str, Any]


class ChatTemplate:
    """A bundle's template and the special tokens it may name."""

    def __init__(self, source: str, tokens: Mapping[str, str], where: Path) -> None:
        """Compile a template.

        Raises:
            EdgeError: jinja2 is not installed, or the template is no template.
        """
        self._where = where
        self._tokens = tokens
        self._template = _compile(source, where)

    @classmethod
    def load(cls, folder: Path) -> ChatTemplate:
        """Read a bundle's template from chat_template.jinja, or else from its tokenizer's config.

        Raises:
            EdgeError: the bundle has none.
        """
        config = _read_config(folder / "tokenizer_config.json")
        file = folder / "chat_template.jinja"
        source = file.read_text(encoding="utf-8") if file.is_file() else _default(config)
        if source is None:
            raise EdgeError(
                f"{folder}: found no chat template, expected chat_template.jinja or one "
                "in tokenizer_config.json; give the prompt as text"
            )
        tokens = {name: _content(config[name]) for name in SPECIAL if config.get(name)}
        return cls(source, tokens, folder)

    def render(self, messages: Sequence[Message], **values: Any) -> str:
        """Return the prompt of a conversation that the assistant is to answer.

        Args:
            messages: mappings with `role` and `content`, and what else the template reads.
            values: more of what it reads, such as `tools` or `enable_thinking`.

        Raises:
            EdgeError: there are no messages, one is ill-formed, or the template refuses them.
        """
        from jinja2 import TemplateError

        plain = _check(messages)
        given = {"tools": None, "documents": None, **self._tokens, **_plain("values", values)}
        try:
            return str(self._template.render(messages=plain, add_generation_prompt=True, **given))
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise EdgeError(
                f"{self._where}: the chat template refuses the messages: {reason}"
            ) from error


def _compile(source: str, where: Path) -> Any:
    try:
        from jinja2 import TemplateError, TemplateSyntaxError, nodes
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise EdgeError(
            'jinja2: is not installed, chat templates need it; pip install "edge-lra[text]"'
        ) from None

    class Generation(Extension):
        """Read the blocks that mark the assistant's words for training as the words alone."""

        tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    def now(form: str) -> str:
        return datetime.now().strftime(form)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json  # jinja2's own escapes HTML
    environment.globals |= {"raise_exception": refuse, "strftime_now": now}
    try:
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        raise EdgeError(f"{where}: its chat template is none: {error.message}") from error


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise EdgeError(f"{file}: found {error}, expected JSON; export again") from None
    return config if isinstance(config, dict) else {}


def _default(config: Mapping[str, Any]) -> str | None:
    """Return the one template of a tokenizer's config, or of several the default one."""
    found = config.get("chat_template")
    if isinstance(found, list):
        found = {entry.get("name"): entry.get("template") for entry in found}.get("default")
    return found if isinstance(found, str) else None


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _check(messages: Sequence[Message]) -> list[dict[str, Any]]:
    if isinstance(messages, (str, Mapping)) or not all(isinstance(m, Mapping) for m in messages):
        raise EdgeError("messages: found something else, expected a list of mappings with a role")
    if not messages:
        raise EdgeError("messages: found none, expected at least one")
    for message in messages:
        if not isinstance(message.get("role"), str):
            raise EdgeError("messages: found one without a role, expected user, assistant, system")
    # A missing key is what templates check for; None they would print.
    rows = [{key: value for key, value in m.items() if value is not None} for m in messages]
    plain: list[dict[str, Any]] = _plain("messages", rows)
    return plain


def _plain(name: str, value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise EdgeError(f"{name}: found {error}, expected what JSON can hold") from None
