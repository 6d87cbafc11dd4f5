"""The program that runs on the device: a request in, an answer out, both JSON.

It needs Python's library, numpy, onnxruntime and safetensors, and of this package the errors, the
bundle, the runner and the golden vectors. A request names what it asks (`"what"`, a key of
`__main__.ANSWERS`); each answer's module says what the request holds besides.
"""
