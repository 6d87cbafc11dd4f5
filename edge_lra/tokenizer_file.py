"""A checkpoint's tokenizer.json, opened by the tokenizers library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_lra.errors import EdgeError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def open_tokenizer(file: Path, source: Path) -> Tokenizer:
    """Open a file.

    Args:
        file: to open.
        source: where it was copied from.

    Raises:
        EdgeError: the library does not read it; names `source`.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        reason = str(error).splitlines()[0]
        raise EdgeError(
            f"{source}: found {reason}, expected a tokenizer; fetch the checkpoint again"
        ) from None
