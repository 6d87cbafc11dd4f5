"""The table of adapters that are read: each case is made by PEFT and held against it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

CONFIGS: dict[str, type[Any]] = {
    "LORA": peft.LoraConfig,
    "LOHA": peft.LoHaConfig,
    "LOKR": peft.LoKrConfig,
    "IA3": peft.IA3Config,
    "VERA": peft.VeraConfig,
    "OFT": peft.OFTConfig,
    "BOFT": peft.BOFTConfig,
}
SMALL = {"vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT = {**SMALL, "intermediate_size": 24, "max_position_embeddings": 20}
LLAMA = {**SMALL, "intermediate_size": 24, "num_key_value_heads": 1}
T5 = {"vocab_size": 24, "d_model": 16, "d_ff": 24, "d_kv": 8, "num_heads": 2, "num_layers": 1}
FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**BERT)),
    "roberta": lambda: transformers.RobertaForTokenClassification(
        transformers.RobertaConfig(**BERT)
    ),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(vocab_size=24, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=24, n_embd=16, n_layer=2, n_head=2, n_positions=20,
            bos_token_id=0, eos_token_id=0,
        )
    ),
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**LLAMA, tie_word_embeddings=False)
    ),
    "llama-tied": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True)
    ),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(**LLAMA, tie_word_embeddings=True)
    ),
    "t5": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)),
    "vit": lambda: transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
            image_size=8, patch_size=4,
        )
    ),
    "wav2vec2": lambda: transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(
            vocab_size=24, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=24, conv_dim=(8, 8), conv_stride=(2, 2), conv_kernel=(3, 3),
            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        )
    ),
    "switch": lambda: transformers.SwitchTransformersForConditionalGeneration(
        transformers.SwitchTransformersConfig(
            **{**T5, "num_layers": 2}, num_experts=2, num_sparse_encoder_layers=1
        )
    ),
    "gpt-oss": lambda: transformers.GptOssForCausalLM(
        transformers.GptOssConfig(
            **{**LLAMA, "num_attention_heads": 2}, head_dim=8, num_local_experts=3,
            num_experts_per_tok=2, layer_types=["full_attention", "full_attention"],
        )
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One adapter: what PEFT is asked for, on which model.

    Attributes:
        shows: the options whose effect the case holds against PEFT.
        dtype: in which base and adapter are saved.
        limit: of a tensor's relative error.
        factored: whether its linears have factors, gains or shifts for `--factored`.
    """

    kind: str
    family: str
    options: dict[str, Any]
    shows: tuple[str, ...] = ()
    dtype: str = "float32"
    limit: float = 1e-6
    factored: bool = True
    name: str = "default"

    @property
    def id(self) -> str:
        said = "-".join(self.shows) or "plain"
        return f"{self.kind}-{self.family}-{said}" + ("-bf16" if self.dtype == "bfloat16" else "")


def lora(family: str, targets: Any, *shows: str, **options: Any) -> Case:
    fields = {f.name for f in dataclasses.fields(Case)} & options.keys()
    own = {name: options.pop(name) for name in fields}
    if options.get("use_dora"):
        own.setdefault("limit", 1e-5)
    given = {"r": 4, "lora_alpha": 6, "target_modules": targets} | options
    return Case("LORA", family, given, shows, **own)


def other(kind: str, family: str, targets: Any, *shows: str, **options: Any) -> Case:
    fields = {f.name for f in dataclasses.fields(Case)} & options.keys()
    own = {name: options.pop(name) for name in fields}
    rotates = kind in ("OFT", "BOFT")
    own = {
        "limit": 1e-5 if rotates else 1e-6,
        "factored": kind not in ("OFT", "BOFT", "LOKR"),
        **own,
    }
    return Case(kind, family, {"target_modules": targets} | options, shows, **own)


def cases() -> Iterator[Case]:
    yield from _linear()
    yield from _elsewhere()
    yield from _whole_tensors()
    yield from _other_kinds()
    yield from _whole_beside_other_kinds()


PATTERNS = {"rank_pattern": {"layer.1.attention.self.query": 2}, "alpha_pattern": {"dense": 3}}


def _linear() -> Iterator[Case]:
    targets = {
        "bert": ["query", "dense"], "roberta": ["key", "value"], "distilbert": ["q_lin", "lin2"],
        "llama": ["q_proj", "down_proj"], "llama-tied": ["v_proj"], "qwen2": ["q_proj", "up_proj"],
        "t5": ["q", "wo"],
    }  # fmt: skip
    for family, names in targets.items():
        for dtype in ("float32", "bfloat16"):
            yield lora(family, names, dtype=dtype)
        yield lora(family, names, "use_rslora", use_rslora=True)
        yield lora(family, names, "use_dora", use_dora=True)
    for dtype in ("float32", "bfloat16"):
        yield lora(
            "bert", ["query", "dense"], "rank_pattern", "alpha_pattern", dtype=dtype, **PATTERNS
        )
        yield lora(
            "gpt2",
            ["c_attn", "c_proj"],
            "fan_in_fan_out",
            fan_in_fan_out=True,
            dtype=dtype,
            factored=False,
        )
        yield lora("bert", ["key"], "lora_bias", lora_bias=True, dtype=dtype)
        yield lora(
            "llama",
            ["k_proj"],
            "use_dora",
            use_dora=True,
            dtype=dtype,
            rank_pattern={"layers.0": 2},
        )
    yield lora(
        "bert",
        ["query"],
        "use_rslora",
        "rank_pattern",
        use_rslora=True,
        **{"rank_pattern": {"^bert.encoder.layer.0.*": 2}},
    )
    yield lora(
        "gpt2",
        ["c_attn"],
        "use_dora",
        "fan_in_fan_out",
        use_dora=True,
        fan_in_fan_out=True,
        factored=False,
    )
    yield lora(
        "gpt2",
        ["c_attn"],
        "lora_bias",
        "fan_in_fan_out",
        lora_bias=True,
        fan_in_fan_out=True,
        factored=False,
    )
    yield lora("llama", r".*layers\.1\..*(q|k)_proj", "target_modules")
    yield lora("llama", "all-linear", "target_modules")
    yield lora(
        "llama",
        ["q_proj"],
        "layers_to_transform",
        "layers_pattern",
        layers_to_transform=[1],
        layers_pattern="layers",
    )
    yield lora(
        "llama",
        ["q_proj", "k_proj"],
        "exclude_modules",
        exclude_modules=["layers.0.self_attn.k_proj"],
    )
    yield lora("roberta", ["query"], "name", name="other")
    for init in (False, "gaussian", "orthogonal", "eva", "mica"):
        yield lora("bert", ["query"], "init_lora_weights", init_lora_weights=init)
    yield lora("llama", ["q_proj"], "lora_dropout", lora_dropout=0.3)


def _elsewhere() -> Iterator[Case]:
    for dora in (False, True):
        said = ("use_dora",) if dora else ()
        for family, names in (
            ("bert", ["word_embeddings", "query"]),
            ("llama", ["embed_tokens"]),
            ("gpt2", ["wte"]),
            ("t5", ["relative_attention_bias"]),
        ):
            yield lora(family, names, *said, use_dora=dora, factored=False)
        yield lora("vit", ["projection"], *said, use_dora=dora, factored=False)
        yield lora("wav2vec2", ["conv_layers.1.conv"], *said, use_dora=dora, factored=False)
        yield lora(
            "llama-tied", ["embed_tokens", "q_proj"], "tied", *said, use_dora=dora, factored=False
        )
        yield lora("qwen2", ["lm_head"], "tied", *said, use_dora=dora, factored=False)
    yield lora("vit", ["projection"], "lora_bias", lora_bias=True, factored=False)
    yield lora(
        "llama-tied",
        ["embed_tokens"],
        "ensure_weight_tying",
        ensure_weight_tying=True,
        factored=False,
    )
    yield lora("gpt2", ["lm_head", "c_attn"], "tied", fan_in_fan_out=True, factored=False)
    yield lora("switch", ["wi", "wo"], "experts")
    yield lora("llama", ["k_proj"], "target_parameters", target_parameters=["q_proj.weight"])
    yield lora(
        "gpt-oss",
        ["q_proj"],
        "target_parameters",
        target_parameters=["mlp.experts.gate_up_proj"],
        factored=False,
    )
    for end in ("", ".down_proj"):  # patterns are of the parameter's name, not of its module's
        yield lora(
            "gpt-oss",
            ["q_proj"],
            "target_parameters",
            *(["rank_pattern", "alpha_pattern"] if end else ["unmatched"]),
            target_parameters=["mlp.experts.down_proj"],
            rank_pattern={"mlp.experts" + end: 2},
            alpha_pattern={"mlp.experts" + end: 9},
            factored=False,
        )


def _whole_tensors() -> Iterator[Case]:
    yield lora("bert", ["query"], "modules_to_save", modules_to_save=["classifier"])
    yield lora("bert", ["query"], "task_type", task_type="SEQ_CLS")
    yield lora("llama", ["q_proj"], "modules_to_save", modules_to_save=["lm_head", "norm"])
    yield lora(
        "llama-tied", ["q_proj"], "modules_to_save", "tied", modules_to_save=["embed_tokens"]
    )
    yield lora("bert", ["query"], "bias", "task_type", bias="all", task_type="SEQ_CLS")
    for bias in ("all", "lora_only"):
        yield lora("bert", ["query"], "bias", bias=bias)
        yield lora("gpt2", ["c_attn"], "bias", bias=bias, fan_in_fan_out=True, factored=False)
    for family in ("llama", "qwen2", "bert"):
        target = "word_embeddings" if family == "bert" else "embed_tokens"
        query = "query" if family == "bert" else "q_proj"
        indices = {target: [1, 5]} if family == "bert" else [1, 5]
        yield lora(
            family,
            [query],
            "trainable_token_indices",
            trainable_token_indices=indices,
            factored=False,
        )


def _other_kinds() -> Iterator[Case]:
    for dtype in ("float32", "bfloat16"):
        for kind in ("LOHA", "LOKR"):
            yield other(kind, "bert", ["query", "dense"], r=3, alpha=5, dtype=dtype)
        yield other(
            "IA3",
            "bert",
            ["key", "output.dense"],
            feedforward_modules=["output.dense"],
            dtype=dtype,
            factored=False,
        )
        yield other("VERA", "llama", ["q_proj", "v_proj"], r=5, dtype=dtype)
        yield other("OFT", "llama", ["q_proj", "down_proj"], oft_block_size=4, dtype=dtype)
        yield other("BOFT", "llama", ["q_proj", "down_proj"], boft_block_size=4, dtype=dtype)
    for kind in ("LOHA", "LOKR"):
        yield other(
            kind,
            "llama",
            ["q_proj"],
            "rank_pattern",
            "alpha_pattern",
            r=3,
            rank_pattern={"layers.0": 2},
            alpha_pattern={"layers.1": 9},
        )
        yield other(kind, "vit", ["projection"], factored=False, r=2)
        yield other(
            kind,
            "vit",
            ["projection"],
            "use_effective_conv2d",
            factored=False,
            r=2,
            use_effective_conv2d=True,
        )
        yield other(
            kind, "wav2vec2", ["conv_layers.1.conv"], factored=False, r=2, use_effective_conv2d=True
        )
    yield other(
        "LOKR",
        "bert",
        ["intermediate.dense"],
        "decompose_both",
        r=1,
        decompose_both=True,
        decompose_factor=4,
    )
    yield other("IA3", "bert", ["key", "value"], feedforward_modules=[])
    yield other(
        "IA3",
        "gpt2",
        ["c_attn", "mlp.c_proj"],
        "fan_in_fan_out",
        feedforward_modules=["mlp.c_proj"],
        fan_in_fan_out=True,
        factored=False,
    )
    yield other("IA3", "vit", ["projection"], feedforward_modules=[], factored=False)
    yield other(
        "IA3",
        "vit",
        ["projection"],
        "feedforward_modules",
        feedforward_modules=["projection"],
        factored=False,
    )
    yield other(
        "VERA",
        "gpt2",
        ["c_attn", "mlp.c_fc"],
        "fan_in_fan_out",
        r=5,
        fan_in_fan_out=True,
        factored=False,
    )
    yield other("VERA", "bert", ["query"], "bias", r=5, bias="vera_only")
    for options in (
        {"block_share": True},
        {"coft": True, "eps": 0.05},
        {"use_cayley_neumann": False},
        {"num_cayley_neumann_terms": 3},
        {"bias": "oft_only"},
    ):
        yield other("OFT", "bert", ["query"], next(iter(options)), oft_block_size=4, **options)
    yield other("OFT", "bert", ["query"], "r", r=4, oft_block_size=0)
    yield other("OFT", "bert", ["word_embeddings"], oft_block_size=4)
    yield other("BOFT", "vit", ["projection"], boft_block_size=4)
    factors = {"boft_n_butterfly_factor": 2}  # PEFT makes it 1 without its CUDA extension
    yield other("BOFT", "llama", ["k_proj"], *factors, boft_block_size=4, **factors)
    yield other(
        "BOFT",
        "bert",
        ["query"],
        "boft_block_num",
        "bias",
        boft_block_num=4,
        boft_block_size=0,
        bias="boft_only",
    )


def _whole_beside_other_kinds() -> Iterator[Case]:
    """Options that all kinds share, and the values of theirs that no other case has."""
    own: dict[str, dict[str, Any]] = {
        "LOHA": {}, "LOKR": {}, "IA3": {"feedforward_modules": []},
        "VERA": {"bias": "all"}, "OFT": {"bias": "all", "oft_block_size": 4},
        "BOFT": {"bias": "all", "boft_block_size": 4},
    }  # fmt: skip
    for kind, options in own.items():
        yield other(
            kind, "bert", ["query"], "modules_to_save", modules_to_save=["classifier"], **options
        )
    given = {"feedforward_modules": r".*output\.dense", "factored": False}
    yield other("IA3", "bert", ["key", "output.dense"], "feedforward_modules", **given)
    yield other(
        "IA3", "bert", None, "feedforward_modules", feedforward_modules=None, factored=False
    )


def make(case: Case, folder: Path) -> Any:
    """Save base and adapter; return the model as PEFT loads the two in float32."""
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(0)
    base = FAMILIES[case.family]()
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    base.to(getattr(torch, case.dtype)).save_pretrained(folder / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = CONFIGS[case.kind](**case.options)
        tuned = peft.get_peft_model(base, config, adapter_name=case.name)
        with torch.no_grad():
            for parameter in tuned.parameters():
                if parameter.requires_grad:
                    parameter.add_((torch.randn(parameter.shape) * 0.2).to(parameter.dtype))
        tuned.save_pretrained(folder / "saved")
        place = folder / "saved" if case.name == "default" else folder / "saved" / case.name
        fresh = type(base).from_pretrained(folder / "base", dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(fresh, place)
    return model.eval(), place
