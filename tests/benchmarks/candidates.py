"""Make every engine's files from the same merged weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import float_model
import report
from engines import Engine
from reviews import training, write

from edge_lra.pipeline import ExportRequest, export
from edge_lra.prepack import prepack

OURS = {  # name: (scheme, mode, calibrated with reviews that the adapter was trained on)
    "ours int8 merged": ("int8", "merge", True),
    "ours int8 merged, no data": ("int8", "merge", False),
    "ours int8 factored": ("int8", "factored", True),
    "ours int4 merged": ("int4", "merge", True),
    "ours none (float32)": ("none", "merge", False),
}

CALIBRATION_ROWS = 256  # half of them calibrate


def calibration_file(folder: Path) -> Path:
    """Return a table of training reviews."""
    file = folder / "reviews.tsv"
    if not file.is_file():
        write(file, training()[:CALIBRATION_ROWS])
    return file


def build_bundle(folder: Path, scheme: str, mode: str, calibrated: bool, task: str) -> Path:
    """Export the sample adapter with our own exporter."""
    request = ExportRequest(
        folder / f"{task}-{scheme}-{mode}{'-data' if calibrated else ''}.edge",
        model=float_model.MODEL,
        adapters=[("sentiment", float_model.ADAPTER)],
        mode=mode,
        scheme=scheme,
        task=task,
        labels=float_model.LABELS if task == "sequence-classification" else None,
        data=calibration_file(folder) if calibrated else None,
        verify=False,  # the benchmark measures the fidelity itself
    )
    return export(request)


def our_engines(folder: Path) -> list[Engine]:
    """Export the hidden states in each way, and the classifier; pack the first for this machine.

    The classifier stands among engines that give hidden states: a peer's head comes on top.
    """
    made = [
        (name, "edge", build_bundle(folder, *o, "feature-extraction")) for name, o in OURS.items()
    ]
    classifier = build_bundle(folder, *OURS[report.OURS], "sequence-classification")
    packed = prepack(made[0][2]).folder
    made += [(report.CLASSIFIER, "classifier", classifier), (report.PREPACKED, "edge", packed)]
    return [_our_engine(*item) for item in made]


def _our_engine(name: str, kind: str, bundle: Path) -> Engine:
    files = [*bundle.glob("model.onnx*"), *bundle.glob("adapters/*")]
    return Engine(name, kind, bundle, tuple(files))


def build_onnx(encoder: Any, folder: Path) -> dict[str, Path]:
    """Return the plain export, the optimizer's, and both quantized."""
    from onnxruntime.transformers import optimizer

    plain = float_model.export_onnx(encoder, folder / "plain.onnx", dynamo=False)
    fused = folder / "fused.onnx"
    heads, hidden = encoder.config.num_attention_heads, encoder.config.hidden_size
    model = optimizer.optimize_model(
        str(plain), model_type="bert", num_heads=heads, hidden_size=hidden
    )
    model.save_model_to_file(str(fused))
    return {
        "ORT fp32 export": plain,
        "ORT fp32 optimizer": fused,
        "ORT quantize_dynamic u8": float_model.quantize_onnx(plain, folder / "plain-u8.onnx"),
        "ORT quantize_dynamic u8 fused": float_model.quantize_onnx(fused, folder / "fused-u8.onnx"),
    }


def build_ctranslate2(encoder: Any, folder: Path) -> Engine:
    """Save the merged encoder for transformers and convert it."""
    from ctranslate2.converters import TransformersConverter

    saved, converted = folder / "merged", folder / "ctranslate2"
    encoder.save_pretrained(saved)
    float_model.tokenizer().save_pretrained(saved)
    TransformersConverter(str(saved)).convert(str(converted), quantization="int8")
    files = tuple(file for file in converted.iterdir() if file.name == "model.bin")
    return Engine("CTranslate2 int8", "ctranslate2", converted, files)


def build_openvino(name: str, source: Path) -> Engine:
    """Convert an ONNX file to an OpenVINO IR."""
    import openvino

    target = source.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(source), target, compress_to_fp16=False)
    return Engine(name, "openvino", target, (target, target.with_suffix(".bin")))


def peer_engines(encoder: Any, folder: Path) -> list[Engine]:
    """Make every peer; say which could not be made here and go on without it."""
    onnx = build_onnx(encoder, folder)
    engines = [Engine(name, "onnxruntime", path, (path,)) for name, path in onnx.items()]
    makers = (
        lambda: build_ctranslate2(encoder, folder),
        lambda: build_openvino(
            "OpenVINO int8 (of quantize_dynamic)", onnx["ORT quantize_dynamic u8"]
        ),
        lambda: build_openvino("OpenVINO float (its default type)", onnx["ORT fp32 export"]),
    )
    for make in makers:
        try:
            engines.append(make())
        except ImportError as error:
            print(f"left out: {error}; pip install ctranslate2 openvino", file=sys.stderr)
    return engines
