"""Let libFuzzer break the parsers: manifest.json, safetensors, and the walk through model.onnx.

python -m tests.runtime.cpp.fuzzing SECONDS
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.runner.tiny_decoder import random_llama, write_bundle
from tests.runtime.cpp.bundles import write_tiny
from tests.runtime.cpp.places import BUILD, CASES

PARSERS = {
    "manifest": ["manifest.json"],
    "safetensors": ["adapters/one.safetensors", "adapters/two.safetensors"],
    "model": ["model.onnx"],
}
LONGEST = 1 << 16


def write_seeds(folder: Path) -> dict[str, Path]:
    """Write whole files for libFuzzer to begin with; return the folder of each parser."""
    bundles = [write_tiny(folder / "tiny"), write_bundle(folder / "decoder", random_llama())]
    seeds = {}
    for parser, names in PARSERS.items():
        seeds[parser] = folder / f"seeds-{parser}"
        seeds[parser].mkdir()
        files = [bundle / name for bundle in bundles for name in names if (bundle / name).exists()]
        files += [CASES / "integers.onnx"] if parser == "model" else []
        for place, file in enumerate(files):
            (seeds[parser] / str(place)).write_bytes(file.read_bytes())
    return seeds


def fuzz(seconds: int, parsers: Sequence[str] = tuple(PARSERS)) -> dict[str, str]:
    """Fuzz the parsers side by side; return what was found by parser, empty for nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        seeds = write_seeds(Path(scratch))
        running = {
            parser: subprocess.Popen(
                [
                    BUILD / f"sanitize/fuzz-{parser}",
                    seeds[parser],
                    f"-max_total_time={seconds}",
                    f"-max_len={LONGEST}",
                    "-timeout=5",
                    # A child's peak begins at its parent's, and pytest's passes 1.3 GB.
                    "-rss_limit_mb=4096",
                    "-malloc_limit_mb=512",
                    "-print_final_stats=1",
                ],
                cwd=scratch,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for parser in parsers
        }
        ended = {parser: process.communicate()[1] for parser, process in running.items()}
    for parser, said in ended.items():
        runs = [line for line in said.splitlines() if "number_of_executed_units" in line]
        print(f"{parser}: {' '.join(runs[0].split()[1:]) if runs else 'no'} inputs")
    return {
        parser: "" if running[parser].returncode == 0 else said for parser, said in ended.items()
    }


def main(seconds: int) -> None:
    """Fuzz each parser alone; end with what broke."""
    for parser in PARSERS:
        for said in fuzz(seconds, [parser]).values():
            if said:
                sys.exit(said[-8000:])


if __name__ == "__main__":
    main(int(sys.argv[1]))
