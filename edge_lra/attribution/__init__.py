"""Where a quantized bundle's error comes from: by layer, by product, and by source.

A product y = x W^T of the float weight and of what the bundle's graph feeds it is computed again in
numpy with the weight alone rounded, with the activation alone, and with both. All of it is relative
to y at that place: what layers before it got wrong is in x already and is not counted again.
"""
