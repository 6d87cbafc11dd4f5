"""The command line: its words, its output, and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge_lra import Runner
from edge_lra.transport.adb import OPTIONS
from tests.runtime.cpp.bundles import WIDTH, change_manifest, tokens
from tests.runtime.cpp.places import CASES, TOOL, call_tool, library_of, run_program


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    file = tmp_path / "in.safetensors"
    save_file(tokens(2, 3), file)
    return file


def test_outputs_are_printed_as_json(tiny_whole: Path, inputs: Path) -> None:
    done = call_tool("run", "--json", "--input", inputs, "--adapter", "two", tiny_whole)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["outputs"]["hidden"]
    expected = Runner.load(tiny_whole).run(tokens(2, 3), adapter="two")["hidden"]
    assert found["dtype"] == "float32" and found["shape"] == [2, 3, WIDTH]
    np.testing.assert_array_equal(np.array(found["values"], np.float32), expected.ravel())


@pytest.mark.parametrize(
    ("words", "adapter"), [([], "one"), (["--adapter", "two"], "two"), (["--no-adapter"], None)]
)
def test_outputs_are_written(
    tiny_whole: Path, inputs: Path, tmp_path: Path, words: list[str], adapter: str | None
) -> None:
    out = tmp_path / "out.safetensors"
    done = call_tool("run", "--input", inputs, f"--output={out}", *words, tiny_whole)
    assert done.returncode == 0 and done.stdout == f"hidden float32[2, 3, {WIDTH}]\n"
    expected = Runner.load(tiny_whole).run(tokens(2, 3), adapter=adapter)["hidden"]
    np.testing.assert_array_equal(load_file(out)["hidden"], expected)
    assert not list(tmp_path.glob("*.part"))


def test_what_a_person_reads_is_one_line(tiny_whole: Path) -> None:
    assert call_tool("cases", CASES).stdout == "48 of 48 integer products are exact\n"
    assert call_tool("verify", tiny_whole).stdout.startswith("0 golden cases: ")
    done = call_tool("profile", "--shape", "1x4", "--runs", 3, tiny_whole)
    assert re.fullmatch(
        r"p50 \S+ ms, p90 .* of 3 runs; loaded in .* ms, first run .* ms\n", done.stdout
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "found no verb"),
        (["walk"], "found 'walk', expected one of run, verify, profile, generate, cases"),
        (["verify"], "found no bundle"),
        (["verify", "a", "b"], "found 'b' behind 'a', expected one bundle"),
        (["verify", "--fast", "a"], "found the option '--fast'"),
        (["verify", "--shape", "1x2", "a"], "--shape: is no option of verify, but of profile"),
        (["verify", "a", "--ort"], "--ort: found no value"),
        (["verify", "--json=1", "a"], "--json: takes no value"),
        (["verify", "--threads", "two", "a"], "--threads: found 'two', expected a whole number"),
        (["verify", "--threads", "0", "a"], "--threads: found '0'"),
        (["profile", "--shape", "128", "a"], "--shape: found '128', expected texts and tokens"),
        (["profile", "--shape", "0x8", "a"], "--shape: found '0x8'"),
        (["profile", "--shape", "1x8x", "a"], "--shape: found '1x8x'"),
        (["profile", "--budget-s", "nan", "a"], "--budget-s: found 'nan'"),
        (["profile", "--runs", "99999999999999999999", "a"], "--runs: found"),
        (["run", "a"], "--input: found none"),
        (["generate", "a"], "--prompt-ids: found none"),
        (["generate", "--prompt-ids", "1,,2", "a"], "--prompt-ids: found '1,,2'"),
        (["verify", "--verify", "maybe", "a"], "--verify: found 'maybe'"),
    ],
)
def test_words_that_are_no_command_are_usage(words: list[str], said: str) -> None:
    done = run_program(TOOL, *words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("Error: ") and said in done.stderr
    assert done.stderr.count("\n") == 1


def test_every_option_of_adb_is_known() -> None:
    values: dict[str, Any] = {"adapter": "a", "shape": [1, 2], "switch": True}
    for name, words_of in OPTIONS.items():
        words = words_of(values.get(name, 3))
        done = run_program(TOOL, "profile", "--ort", library_of(), *words, "/no/bundle")
        assert done.returncode == 1 and "found no manifest.json" in done.stderr, name


def test_help_names_every_option_and_code() -> None:
    done = run_program(TOOL, "--help")
    assert done.returncode == 0
    source = (TOOL.parents[3] / "runtime/cpp/cli/options.cpp").read_text()
    options = set(re.findall(r'^\s+\{"(--[a-z-]+)"', source, re.MULTILINE))
    assert len(options) > 15
    assert {option for option in options if option not in done.stdout} == set()
    assert run_program(TOOL, "--version").stdout.startswith("edge-lra-run 0.")


def test_a_name_that_begins_with_dashes_follows_two(tmp_path: Path) -> None:
    done = call_tool("verify", "--", "--odd.edge")
    assert done.returncode == 1 and "--odd.edge: found no manifest.json" in done.stderr


def test_a_failed_gate_has_a_code_of_its_own(tiny_bundle: Path) -> None:
    hidden = np.zeros((1, 3, WIDTH), np.float32)
    cases = {f"input.0.{name}": value for name, value in tokens().items()}
    save_file(
        cases | {"output.0.hidden": hidden, "float.0.hidden": hidden},
        tiny_bundle / "golden.safetensors",
    )
    from edge_lra.bundle import describe_files

    files = describe_files(tiny_bundle)
    change_manifest(tiny_bundle, lambda manifest: manifest.update(files=files))
    change_manifest(tiny_bundle, lambda manifest: manifest["golden"].update(adapters=["two"]))
    done = call_tool("verify", "--json", tiny_bundle)
    assert done.returncode == 3
    assert json.loads(done.stdout)["max_abs_error"] > 0.1
    assert "from the float model, expected at most" in done.stderr


def test_verify_hashes_every_adapter(tiny_bundle: Path) -> None:
    change_manifest(tiny_bundle, lambda manifest: manifest["adapters"]["two"].update(base="e" * 64))
    done = call_tool("verify", tiny_bundle)
    assert done.returncode == 1 and "adapter two: is foreign" in done.stderr


def test_integer_products_that_differ_fail(tmp_path: Path) -> None:
    tensors = load_file(CASES / "integers.safetensors")
    tensors["y.5"][0, 0] += 1
    save_file(tensors, tmp_path / "integers.safetensors")
    (tmp_path / "integers.onnx").write_bytes((CASES / "integers.onnx").read_bytes())
    done = call_tool("cases", tmp_path)
    assert done.returncode == 3 and "found 1 of 48 integer products that differ" in done.stderr


def test_an_output_that_cannot_be_written_is_one_line(tiny_whole: Path, inputs: Path) -> None:
    done = call_tool("run", "--input", inputs, "--output", "/proc/no/out", tiny_whole)
    assert done.returncode == 1 and "cannot be written" in done.stderr


def test_a_full_output_is_an_error() -> None:
    done = run_program("sh", "-c", f"exec '{TOOL}' --help >/dev/full")
    assert done.returncode == 1 and "output: cannot be written" in done.stderr
