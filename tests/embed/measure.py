"""Print what edge_lra/embed/sizes.toml records of files: bytes, and deflated at level 9.

    python -m tests.embed.measure FILE...

Each file is deflated on its own, as zip archives hold them.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable
from pathlib import Path


def measure(files: Iterable[Path]) -> tuple[int, int]:
    """Return the bytes of files, and those of their deflated contents."""
    plain = packed = 0
    for file in files:
        data = file.read_bytes()
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        plain += len(data)
        packed += len(deflate.compress(data)) + len(deflate.flush())
    return plain, packed


if __name__ == "__main__":
    found = measure(map(Path, sys.argv[1:]))
    print("bytes = {}\ncompressed_bytes = {}".format(*found))
