"""`edge-lra generate`: text as it comes on standard output, and nothing else there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import edge_lra
from edge_lra.cli import main
from edge_lra.runner import Generator
from tests.cli.documents import document
from tests.runner.tiny_decoder import (
    byte_tokenizer,
    change_manifest,
    random_adapter,
    random_llama,
    write_bundle,
)

MODEL = random_llama()
FACTORS = {"one": random_adapter(MODEL, 4, 1), "two": random_adapter(MODEL, 2, 2)}
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_bundle(tmp_path / "b.edge", MODEL, FACTORS)


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["generate", "b.edge", *arguments], input=stdin)


def expected(prompt: Any, **options: Any) -> Any:
    generator = Generator.load("b.edge", threads=1)
    return generator.generate(prompt, **{"max_tokens": 12} | options)


def test_the_text_goes_to_standard_output_and_the_speed_to_the_other(bundle: Path) -> None:
    result = run("--prompt", "ab", "--max-tokens", "12")
    assert result.exit_code == 0
    assert result.stdout == expected("ab").text + "\n"
    assert result.stderr.startswith("2 prompt tokens, ") and result.stderr.count("\n") == 1
    assert "12 new, " in result.stderr and result.stderr.endswith(" tok/s\n")


def test_every_option_reaches_the_generator(bundle: Path) -> None:
    options = {
        "adapter": "two",
        "temperature": 0.9,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.01,
        "repetition_penalty": 1.2,
        "seed": 4,
        "lookup": 3,
        "max_tokens": 30,
    }
    flags = [part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", str(v))]
    whole = expected("ab", **options)
    stop = whole.text[6:8]
    result = run("--prompt", "ab", *flags, "--stop", stop, "--stop", "never", "--threads", "1")
    assert result.stdout == whole.text[: whole.text.index(stop)] + "\n"
    assert result.stdout != expected("ab", max_tokens=30, stop=stop).text + "\n"


def test_several_prompts_are_one_batch(bundle: Path) -> None:
    result = run("--prompt", "ab", "--prompt", "c", "--max-tokens", "12")
    one, two = expected(["ab", "c"])
    assert result.stdout == f"> ab\n{one.text}\n> c\n{two.text}\n"


@pytest.mark.parametrize("source", ["-", "p.txt"])
def test_a_prompt_may_come_from_a_file_or_standard_input(bundle: Path, source: str) -> None:
    Path("p.txt").write_text("Grüße\n")
    result = run("--input", source, "--max-tokens", "12", stdin="Grüße\n".encode())
    assert result.stdout == expected("Grüße").text + "\n"


def test_a_chat_goes_through_the_template(bundle: Path) -> None:
    (bundle / "chat_template.jinja").write_text(TEMPLATE)
    change_manifest(bundle)
    result = run("--chat", "Hi", "--system", "Be kind", "--max-tokens", "12")
    ids = byte_tokenizer().encode("<system>Be kind<user>Hi").ids
    assert result.stdout == expected(ids).text + "\n"


def test_a_full_context_slides_when_told(bundle: Path) -> None:
    result = run("--prompt", "ab", "--max-tokens", "60", "--context", "30", "--slide")
    assert result.exit_code == 0 and "60 new" in result.stderr
    refused = run("--prompt", "ab", "--max-tokens", "60", "--context", "30")
    assert refused.exit_code == 1 and "expected at most 28 in a context of 30" in refused.stderr


@pytest.mark.parametrize("prompts", [["ab"], ["ab", "c"]])
def test_json_keeps_to_its_schema(bundle: Path, prompts: list[str]) -> None:
    flags = [part for prompt in prompts for part in ("--prompt", prompt)]
    found = document("generate", "b.edge", *flags, "--max-tokens", "12", "--adapter", "one")
    assert found["adapter"] == "one"
    for entry, prompt in zip(found["results"], prompts, strict=True):
        result = expected(prompt, adapter="one")
        assert (entry["prompt"], entry["text"]) == (prompt, result.text)
        assert (entry["tokens"], entry["stopped_by"]) == (result.tokens, "max_tokens")


def test_json_in_a_file_leaves_the_text_on_standard_output(bundle: Path) -> None:
    result = run("--prompt", "ab", "--max-tokens", "12", "--json", "f.json")
    text = json.loads(Path("f.json").read_text())["results"][0]["text"]
    assert result.stdout == text + "\n" == expected("ab").text + "\n"


# ---- as it comes ---------------------------------------------------------------------------


def start(*arguments: str) -> subprocess.Popen[bytes]:
    root = Path(edge_lra.__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, "-m", "edge_lra", "generate", "b.edge", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root)},
        # A shell's background jobs ignore it, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


LONG = ("--prompt", "ab", "--max-tokens", "100000000", "--slide", "--temperature", "1.5")


def test_text_comes_before_the_end_and_an_interrupt_ends_in_order(bundle: Path) -> None:
    decoder = json.loads((bundle / "manifest.json").read_text())["decoder"]
    change_manifest(bundle, decoder=decoder | {"eos_token_ids": []})
    process = start(*LONG)
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 10)
    assert first and process.poll() is None
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert rest.endswith(b"\n")
    lines = errors.decode().splitlines()
    assert len(lines) == 1 and lines[0].startswith("Interrupted after ")


def test_a_reader_that_leaves_ends_it(bundle: Path) -> None:
    decoder = json.loads((bundle / "manifest.json").read_text())["decoder"]
    change_manifest(bundle, decoder=decoder | {"eos_token_ids": []})
    process = start(*LONG)
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 10)
    process.stdout.close()
    assert process.wait(timeout=20) == 1
    assert process.stderr is not None and b"Traceback" not in process.stderr.read()


# ---- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give one of --prompt, --chat, or --input"),
        (["--prompt", "a", "--chat", "b"], 2, "give one of"),
        (["--prompt", "a", "--system", "b"], 2, "--system goes with --chat"),
        (["--prompt", "a", "--max-tokens", "0"], 2, "--max-tokens"),
        (["--prompt", ""], 1, "prompt: found it empty"),
        (["--prompt", "a", "--adapter", "six"], 1, "found 'six', expected one of: one, two"),
        (["--prompt", "a", "--temperature", "-1"], 1, "temperature: found -1.0"),
        (["--prompt", "a", "--top-p", "0"], 1, "top_p: found 0.0"),
        (["--prompt", "a", "--stop", ""], 1, "stop: found an empty string"),
        (["--prompt", "a", "--lookup", "99"], 1, "lookup: found 99, expected 0 to 15"),
        (["--prompt", "a", "--context", "999"], 1, "context: found 999, expected 2 to 96"),
        (["--prompt", "a" * 200], 1, "prompt: found 200 tokens, expected fewer than 96"),
        (["--chat", "hi"], 1, "found no chat template"),
        (["--input", "none.txt"], 1, "none.txt: found no such file; check --input"),
        (["--input", "b.edge/model.onnx"], 1, "found other bytes, expected UTF-8 text"),
    ],
)
def test_a_mistake_is_one_line_and_no_text(
    bundle: Path, arguments: list[str], code: int, message: str
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ") and message in last
    assert code == 2 or result.stderr.count("\n") == 1


def test_run_and_generate_name_each_other(bundle: Path) -> None:
    result = CliRunner().invoke(main, ["run", "b.edge", "--text", "a"])
    assert result.exit_code == 1 and result.stderr.endswith("run edge-lra generate\n")
    np.savez("x.npz", input_ids=[[5, 6]], attention_mask=[[1, 1]])
    assert CliRunner().invoke(main, ["run", "b.edge", "--input", "x.npz"]).exit_code == 0
    change_manifest(bundle, task="sentence-embedding", decoder=None)
    result = run("--prompt", "a")
    assert result.exit_code == 1 and result.stderr.endswith("use Runner, or edge-lra run\n")
