"""The Java runner, compiled once a session and driven through a pipe."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.runtime.android.toolchain import (
    HERE,
    JUNIT,
    LIBRARIES,
    ONNXRUNTIME_LIB,
    SOURCES,
    build_natives,
    class_path,
    compile_java,
    java_files,
)


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled library, with what it calls of Android as stubs."""
    out = tmp_path_factory.mktemp("java")
    stubs = compile_java(java_files(HERE / "stubs"), out / "stubs")
    compile_java(java_files(SOURCES), out / "library", *LIBRARIES, stubs)
    return out


@pytest.fixture(scope="session")
def tested(classes: Path) -> str:
    """Return the class path with the Java side of these tests."""
    given = (classes / "library", classes / "stubs", *LIBRARIES, *JUNIT)
    compile_java(java_files(HERE / "java"), classes / "tests", *given)
    return class_path(classes / "tests", *given)


class Probe:
    """The runner on the other side of a pipe."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._files = 0

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request, return the answer; a mistake has a code and a message."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{do}: the Java side died"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def load(self, bundle: Path, **options: Any) -> int:
        """Load a bundle with one thread; return its number."""
        answer = self.ask(
            "load", bundle=str(bundle), stamps=str(self._folder / "stamps"), **options
        )
        assert "code" not in answer, answer
        return int(answer["runner"])

    def run(self, runner: int, inputs: Mapping[str, np.ndarray], **request: Any) -> dict[str, Any]:
        """Run a batch; return the outputs, or a mistake."""
        given, out = self.file(inputs), self._folder / "outputs.bin"
        answer = self.ask("run", runner=runner, inputs=str(given), out=str(out), **request)
        if "code" in answer:
            return answer
        data, start, found = out.read_bytes(), 0, {}
        for name, (dtype, shape) in answer.items():
            count = int(np.prod(shape))
            found[name] = np.frombuffer(data, dtype, count, start).reshape(shape)
            start += found[name].nbytes
        assert start == len(data)
        return found

    def file(self, inputs: Mapping[str, np.ndarray]) -> Path:
        """Write inputs where the other side can read them."""
        self._files += 1
        path = self._folder / f"inputs-{self._files}.safetensors"
        save_file({name: np.ascontiguousarray(value) for name, value in inputs.items()}, path)
        return path


@pytest.fixture(scope="session")
def java(tested: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the command that runs a class of the tests, with its environment in front."""
    natives = build_natives(tmp_path_factory.mktemp("natives") / "lib")
    environment = [f"LD_LIBRARY_PATH={natives}", f"ONNXRUNTIME_LIB={ONNXRUNTIME_LIB}"]
    options = ["-ea", f"-Donnxruntime.native.path={natives}", "-Xmx512m"]
    return ["env", *environment, "java", *options, "-cp", tested]


@pytest.fixture(scope="session")
def probe(java: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """Return the runner in a Java process, which ends with the session."""
    process = subprocess.Popen(
        [*java, "org.edgelra.Probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    yield Probe(process, tmp_path_factory.mktemp("probe"))
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 0
