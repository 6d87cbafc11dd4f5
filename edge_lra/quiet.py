"""Keep what libraries print off the terminal: `edge-lra` speaks for itself."""

from __future__ import annotations

from functools import partial


def quiet_transformers() -> None:
    """Keep transformers' advice and bars off the terminal."""
    import transformers
    from transformers import modeling_gguf_pytorch_utils as gguf

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    gguf.tqdm = partial(gguf.tqdm, disable=True)  # the bar that transformers' switch leaves on
