"""The float oracle: transformers, with PEFT loading the adapter itself.

It shares no code with the reader of checkpoints and adapters, so a mistake there shows here. An
adapter of two layers, which PEFT does not know, is loaded by the torch modules that train it, and
one in another format is converted first.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.places import ADAPTER_CONFIG
from edge_lra.quiet import quiet_transformers
from edge_lra.task import TASK_TYPES
from edge_lra.tensor_files import read_config

Array = npt.NDArray[Any]
AUTO_CLASSES = {
    "feature-extraction": "AutoModel",
    "sentence-embedding": "AutoModel",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "text-generation": "AutoModelForCausalLM",
}

# PEFT says these of adapters that load as they should.
HARMLESS = (
    ".*CUDA extension.*",
    ".*butterfly_factor.*",
    ".*tie_word_embeddings.*",
    "fan_in_fan_out.*",
)


class Oracle:
    """A float32 model in torch that answers with the bundle's output names."""

    def __init__(
        self,
        model: Path,
        task: str,
        adapters: Sequence[tuple[Path, float]],
        task_type: str | None,
        num_labels: int | None,
    ) -> None:
        """Load the base and, through PEFT, the adapter.

        Args:
            model: checkpoint folder, or a GGUF file.
            task: the bundle's task.
            adapters: folders and weights; their changes are summed.
            task_type: the adapter's `task_type`; decides the class PEFT expects below it.
            num_labels: size of the head, where there is one.
        """
        import torch
        import transformers

        quiet_transformers()
        loader = getattr(transformers, AUTO_CLASSES[TASK_TYPES.get(task_type or "", task)])
        options: dict[str, Any] = {} if num_labels is None else {"num_labels": num_labels}
        loaded = loader.from_pretrained(
            **Checkpoint(model).oracle_source(),
            dtype=torch.float32,
            local_files_only=True,
            attn_implementation="eager",
            **options,
        )
        loaded = with_adapters(loaded, adapters)
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
        switch(self.model, False)


def switch(model: Any, on: bool) -> None:
    """Switch adapters on or off at a model's sites."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    from edge_lra.tune.module import LowRankAdapter

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(on)
        elif isinstance(module, LowRankAdapter):
            module.enabled = on


def with_adapters(model: Any, adapters: Sequence[tuple[Path, float]]) -> Any:
    """Return a model with all adapters acting, each scaled by its weight.

    Args:
        model: transformers'.
        adapters: folders and weights; their changes are summed.
    """
    from edge_lra.tune.files import is_layers, load_adapter

    if not adapters:
        return model
    if is_layers(adapters[0][0]):
        ((path, _),) = adapters  # they are not additive: a merge takes one alone
        load_adapter(model, path)
        return model
    return _load_peft(model, adapters)


def _load_peft(model: Any, adapters: Sequence[tuple[Path, float]]) -> Any:
    """Return the model with all adapters active, each scaled by its weight."""
    from peft import PeftModel

    # PEFT cannot load an adapter without a head beside one that has a head, only before it.
    adapters = sorted(adapters, key=lambda item: _has_head(item[0]))
    names = [f"adapter_{place}" for place in range(len(adapters))]
    loaded = None
    for name, (path, _) in zip(names, adapters, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # PEFT only warns when keys find no place
            for harmless in HARMLESS:
                warnings.filterwarnings("ignore", harmless)
            try:
                if loaded is None:
                    loaded = PeftModel.from_pretrained(model, str(path), adapter_name=name)
                else:
                    loaded.load_adapter(str(path), adapter_name=name)
            except UserWarning as warning:
                text = str(warning).splitlines()[0][:300]
                raise EdgeError(
                    f"{path}: PEFT found {text}; is this adapter for another base?"
                ) from None
    _activate(loaded, dict(zip(names, (weight for _, weight in adapters), strict=True)))
    return loaded


def _has_head(adapter: Path) -> bool:
    return bool(read_config(adapter / ADAPTER_CONFIG).get("modules_to_save"))


def _activate(model: Any, weights: Mapping[str, float]) -> None:
    """Let every adapter act at once; of heads, the first that an adapter brought."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.set_adapter(list(weights), inference_mode=True)
            for name, weight in weights.items():
                if weight != 1 and name in module.scaling:
                    module.scaling[name] *= weight
        elif isinstance(module, ModulesToSaveWrapper):
            module.set_adapter(next(name for name in weights if name in module.modules_to_save))
