"""A conversation is written as transformers writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from edge_lra.errors import EdgeError
from edge_lra.runner.chat import ChatTemplate
from tests.runner.tiny_decoder import byte_tokenizer

TURNS = [
    {"role": "system", "content": "Be <brief> & kind."},
    {"role": "user", "content": "Grüße 👩🏽‍🚀"},
    {"role": "assistant", "content": "Hi", "name": None},
    {"role": "user", "content": "More?"},
]
CHATML = (
    "{% for message in messages %}\n  {{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LOOP = (
    "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages %}"
    "{% if m.role == 'system' %}{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}"
    "{{ ns.n }} {{ m | tojson }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content | trim }}{% endgeneration %}{% endif %}{% endfor %}"
    "{{ messages | tojson(indent=2) }}{{ strftime_now('%Y') }}{{ tools is none }}"
)


def write(folder: Path, template: Any, in_config: bool = False) -> Any:
    """Write a tokenizer with a template; return transformers' own."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    if in_config:
        (folder / "chat_template.jinja").unlink()
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("in_config", [False, True])
@pytest.mark.parametrize("template", [CHATML, LOOP])
def test_it_reads_as_transformers_writes_it(tmp_path: Path, template: str, in_config: bool) -> None:
    tokenizer = write(tmp_path, template, in_config)
    expected = tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)
    assert ChatTemplate.load(tmp_path).render(TURNS) == expected


def test_of_several_templates_the_default_is_taken(tmp_path: Path) -> None:
    several = [{"name": "other", "template": "no"}, {"name": "default", "template": CHATML}]
    write(tmp_path, CHATML, in_config=True)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": several}))
    assert "<|user|>More?</s>" in ChatTemplate.load(tmp_path).render(TURNS)


def test_more_values_reach_the_template(tmp_path: Path) -> None:
    write(tmp_path, "{% if enable_thinking %}think{% else %}talk{% endif %}")
    assert ChatTemplate.load(tmp_path).render(TURNS, enable_thinking=True) == "think"


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (CHATML, [], "messages: found none"),
        (CHATML, "hello", "messages: found something else, expected a list"),
        (CHATML, [{"content": "x"}], "messages: found one without a role"),
        (CHATML, [{"role": "user", "content": object()}], "expected what JSON can hold"),
        ("{{ raise_exception('roles must alternate') }}", TURNS, "roles must alternate"),
        ("{{ messages[9].content }}", TURNS, "refuses the messages"),
        ("{{ ''.__class__.__mro__ }}", TURNS, "refuses the messages"),
        ("{% for %}", TURNS, "its chat template is none"),
    ],
)
def test_what_cannot_be_rendered_is_one_line(
    tmp_path: Path, template: str, messages: Any, message: str
) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(EdgeError, match=message) as caught:
        ChatTemplate.load(tmp_path).render(messages)
    assert "\n" not in str(caught.value)


def test_a_bundle_without_a_template_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"found no chat template, .* give the prompt as text"):
        ChatTemplate.load(tmp_path)
