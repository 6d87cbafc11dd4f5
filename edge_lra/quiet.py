"""Keep what libraries print off the terminal: `edge-lra` speaks for itself."""

from __future__ import annotations

import os
import sys
import warnings
from functools import partial


def quiet_libraries() -> None:
    """Set what libraries read when they are imported; the user's settings win."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore", FutureWarning)


def quiet_transformers() -> None:
    """Keep transformers' advice and bars off the terminal."""
    import transformers
    from transformers import modeling_gguf_pytorch_utils as gguf

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    gguf.tqdm = partial(gguf.tqdm, disable=True)  # the bar that transformers' switch leaves on
