"""Export low-rank adapted models to int8 ONNX bundles and run them."""

__version__ = "0.1.0"
