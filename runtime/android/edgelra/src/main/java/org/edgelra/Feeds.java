package org.edgelra;

import java.util.LinkedHashMap;
import java.util.Map;

/** What the graph takes beside its token inputs. */
final class Feeds {
    private Feeds() {}

    /** Returns everything that a run without a past takes. */
    static Map<String, Tensor> of(
            Manifest manifest, Map<String, Tensor> inputs, Map<String, Tensor> factors) {
        Map<String, Tensor> feeds = new LinkedHashMap<>(inputs);
        DecoderSpec decoder = manifest.decoder;
        if (decoder == null) {
            feeds.putAll(factors);
            return feeds;
        }
        long batch = inputs.get("input_ids").shape()[0];
        Tensor empty = Tensor.zeros(DType.FLOAT32, batch, decoder.kvHeads, 0, decoder.headSize);
        for (String past : decoder.past) {
            feeds.put(past, empty);
        }
        feeds.putAll(stacked(manifest, factors, batch));
        return feeds;
    }

    /** Returns a decoder's one adapter as a stack of one, and the index of each row into it. */
    static Map<String, Tensor> stacked(
            Manifest manifest, Map<String, Tensor> factors, long batch) {
        Map<String, Tensor> feeds = new LinkedHashMap<>();
        for (Map.Entry<String, Tensor> factor : factors.entrySet()) {
            long[] shape = factor.getValue().shape();
            long[] stack = new long[shape.length + 1];
            stack[0] = 1;
            System.arraycopy(shape, 0, stack, 1, shape.length);
            feeds.put(factor.getKey(), factor.getValue().reshaped(stack));
        }
        if (manifest.decoder.adapterIndex != null) {
            feeds.put(manifest.decoder.adapterIndex, Tensor.zeros(DType.INT64, batch));
        }
        return feeds;
    }
}
