"""The sample app: it compiles without a warning, and its tokenizer is the bundle's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.runtime.android.toolchain import HERE, LIBRARIES, ROOT, class_path

COMPILER = ROOT / ".cache/kotlin/lib"  # Makefile
STANDARD = COMPILER / "kotlin-stdlib.jar"
SAMPLE = ROOT / "runtime/android/sample/src/main/kotlin"
TEXTS = (
    "A fine film, warm and funny.",
    "Isn't   it 100% unbelievable?! (yes...)",
    "Ünïcödé naïve café Ångström ŒUVRE İstanbul straße",
    "日本語 and 中文字 mixed \uff46\uff55\uff4c\uff4c width",
    "emoji 🙂 and  thin space, zero​width, tab\tand \x07bell",
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 101,
    "«quoted» \u2013 dash — and… ¿qué? ¡no! §5 $5 €5 a_b c^d `e` ~f +g =h <i> |j|",
    "word " * 200,
    "",
    "e\u0301 combining, \u200b \ufeff \ufffd dropped",
)


@pytest.fixture(scope="module")
def sample(classes: Path) -> str:
    """Return the class path of the compiled sample."""
    given = (STANDARD, classes / "library", classes / "stubs", *LIBRARIES)
    out = classes / "sample"
    compiler = ["java", "-cp", f"{COMPILER}/*", "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    options = ["-Werror", "-no-stdlib", "-no-reflect", "-jvm-target", "11"]
    files = ["-cp", class_path(*given), "-d", str(out), str(SAMPLE), str(HERE / "kotlin")]
    done = subprocess.run([*compiler, *options, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return class_path(out, *given)


def test_the_sample_tokenizes_as_the_bundles_tokenizer(sample: str, merged: Path) -> None:
    file = merged / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    done = subprocess.run(
        ["java", "-Dfile.encoding=UTF-8", "-cp", sample, "TokenizeKt", str(file)],
        input="".join(text + "\n" for text in TEXTS),
        capture_output=True,
        text=True,
        check=True,
    )
    for text, line in zip(TEXTS, done.stdout.splitlines(), strict=True):
        assert [int(token) for token in line.split()] == tokenizer.encode(text).ids, text
