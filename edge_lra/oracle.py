"""The float oracle: transformers, with PEFT loading the adapter itself.

It shares no code with the reader of checkpoints and adapters, so a mistake there shows here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.errors import EdgeError
from edge_lra.task import TASK_TYPES

Array = npt.NDArray[Any]
AUTO_CLASSES = {
    "feature-extraction": "AutoModel",
    "sentence-embedding": "AutoModel",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}


class Oracle:
    """A float32 model in torch that answers with the bundle's output names."""

    def __init__(
        self,
        model: Path,
        task: str,
        adapter: Path | None,
        task_type: str | None,
        num_labels: int | None,
    ) -> None:
        """Load the base and, through PEFT, the adapter.

        Args:
            model: checkpoint folder.
            task: the bundle's task.
            adapter: PEFT folder or None.
            task_type: the adapter's `task_type`; decides the class PEFT expects below it.
            num_labels: size of the head, where there is one.
        """
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        loader = getattr(transformers, AUTO_CLASSES[TASK_TYPES.get(task_type or "", task)])
        options: dict[str, Any] = {} if num_labels is None else {"num_labels": num_labels}
        loaded = loader.from_pretrained(
            model,
            dtype=torch.float32,
            local_files_only=True,
            attn_implementation="eager",
            **options,
        )
        if adapter is not None:
            loaded = _load_peft(loaded, adapter)
        self.torch, self.model, self.task = torch, loaded.eval(), task

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the float outputs for one batch of token inputs."""
        hidden = self.task in ("feature-extraction", "sentence-embedding")
        with self.torch.no_grad():
            tensors = {name: self.torch.from_numpy(np.asarray(x)) for name, x in inputs.items()}
            result = self.model(**tensors, output_hidden_states=hidden)
        if hidden:
            return {"last_hidden_state": result.hidden_states[-1].numpy()}
        names = ("start_logits", "end_logits") if self.task == "question-answering" else ("logits",)
        return {name: result[name].numpy() for name in names}

    def hidden_states(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return each layer's output (batch, tokens, hidden), in order."""
        with self.torch.no_grad():
            tensors = {name: self.torch.from_numpy(np.asarray(x)) for name, x in inputs.items()}
            states = self.model(**tensors, output_hidden_states=True).hidden_states
        return [state.numpy() for state in states[1:]]

    def switch_off(self) -> None:
        """Switch the adapter off at its sites, keeping a head that it brought."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        for module in self.model.modules():
            if isinstance(module, BaseTunerLayer):
                module.enable_adapters(False)


def _load_peft(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT only warns when keys find no place
        try:
            return PeftModel.from_pretrained(model, str(adapter))
        except UserWarning as warning:
            text = str(warning).splitlines()[0][:300]
            raise EdgeError(
                f"{adapter}: PEFT found {text}; is this adapter for another base?"
            ) from None
