"""Build onnx_ir graphs whose weights are names, shapes and sources."""
