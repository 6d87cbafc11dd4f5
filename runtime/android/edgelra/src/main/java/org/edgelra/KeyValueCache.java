package org.edgelra;

import ai.onnxruntime.OnnxTensor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Keys and values of one row of tokens: one buffer for past and present, grown by doubling.
 *
 * <p>GroupQueryAttention writes new keys behind the valid ones when past and present share memory;
 * how many are valid is the sum of the attention mask. Not thread-safe.
 */
final class KeyValueCache implements AutoCloseable {
    private static final int FIRST = 256; // tokens there is room for at first
    private static final int CHUNK = 256; // prompt tokens a run
    private static final String LOGITS = "logits";

    private final Session session;
    private final DecoderSpec decoder;
    private final int context;
    private final long vocabulary;
    private final Tensor logits; // (1, 1, vocabulary), of the last token
    private final Map<String, OnnxTensor> fixed = new LinkedHashMap<>(); // bound once
    private final Map<String, OnnxTensor> outputs = new LinkedHashMap<>();
    private final List<Tensor> buffers = new ArrayList<>();
    private Tensor mask = Tensor.zeros(DType.INT64, 1, 0); // ones
    private int length;
    private boolean broken;

    /** Makes room for a row; {@code factors} are one adapter's tensors, or those of none. */
    KeyValueCache(Session session, Manifest manifest, int context, Map<String, Tensor> factors) {
        this.session = session;
        this.decoder = manifest.decoder;
        this.context = context;
        this.vocabulary = manifest.vocabularySize;
        this.logits = Tensor.zeros(DType.FLOAT32, 1, 1, vocabulary);
        outputs.put(LOGITS, session.view(logits));
        for (Map.Entry<String, Tensor> feed : Feeds.stacked(manifest, factors, 1).entrySet()) {
            fixed.put(feed.getKey(), session.view(feed.getValue()));
        }
        try {
            reserve(FIRST);
        } catch (RuntimeException error) {
            close();
            throw error;
        }
    }

    /** Returns the logits of the last token that was read. */
    ByteBuffer logits() {
        return logits.buffer();
    }

    /**
     * Reads more tokens, in chunks; returns the logits of the last, overwritten by the next call.
     *
     * @throws EdgeException INVALID_ARGUMENT: ids that are none, or more than the context holds.
     */
    ByteBuffer read(long[] ids) {
        check(ids);
        reserve(length + ids.length);
        for (int start = 0; start < ids.length; start += CHUNK) {
            int size = Math.min(CHUNK, ids.length - start);
            Tensor part = Tensor.zeros(DType.INT64, 1, size);
            for (int place = 0; place < size; place++) {
                part.putLong(place, ids[start + place]);
            }
            run(part, length + size);
            length += size;
        }
        return logits.buffer();
    }

    private void check(long[] ids) {
        if (broken) {
            throw new EdgeException(
                    EdgeException.Code.CLOSED,
                    "generation: is closed, or its last run failed; start another");
        }
        if (ids.length == 0) {
            throw EdgeException.invalid("tokens: found none, expected at least one");
        }
        Inputs.checkIds("tokens", ids, vocabulary);
        if ((long) length + ids.length > context) {
            throw EdgeException.invalid(
                    "tokens: found " + ((long) length + ids.length) + ", expected at most " + context
                            + ", the context; give fewer");
        }
    }

    private void run(Tensor ids, int total) {
        Map<String, OnnxTensor> inputs = new LinkedHashMap<>(fixed);
        List<OnnxTensor> views = new ArrayList<>();
        broken = true; // unless the run ends well: the buffers may hold half a step
        try {
            views.add(session.view(ids));
            inputs.put("input_ids", views.get(0));
            views.add(session.view(ones(total)));
            inputs.put("attention_mask", views.get(1));
            session.run(inputs, outputs);
            broken = false;
        } finally {
            Session.close(views);
        }
    }

    /** Returns the first places of the mask. */
    private Tensor ones(int total) {
        ByteBuffer part = mask.buffer();
        part.limit(total * DType.INT64.getWidth());
        return Tensor.of(DType.INT64, part, 1, total);
    }

    /** Makes room for so many tokens: the next power of two, or the context. */
    void reserve(int tokens) {
        int capacity = (int) mask.getCount();
        if (tokens <= capacity) {
            return;
        }
        int power = Integer.highestOneBit(Math.max(1, tokens - 1)) << 1;
        int grown = Math.min(context, Math.max(FIRST, power < 0 ? context : power));
        for (int place = 0; place < decoder.past.size(); place++) { // never two whole caches
            Tensor buffer =
                    Tensor.zeros(DType.FLOAT32, 1, decoder.kvHeads, grown, decoder.headSize);
            if (place < buffers.size()) {
                copyRows(buffers.get(place), capacity, buffer, grown);
                buffers.set(place, buffer);
            } else {
                buffers.add(buffer);
            }
            bind(place, session.view(buffer));
        }
        mask = Tensor.ones(DType.INT64, 1, grown);
    }

    private void bind(int place, OnnxTensor view) {
        OnnxTensor before = fixed.put(decoder.past.get(place), view);
        outputs.put(decoder.present.get(place), view);
        if (before != null) {
            before.close();
        }
    }

    private void copyRows(Tensor from, int capacity, Tensor to, int grown) {
        int row = decoder.headSize * DType.FLOAT32.getWidth();
        ByteBuffer target = to.buffer();
        for (int head = 0; head < decoder.kvHeads; head++) {
            ByteBuffer source = from.buffer();
            source.position(head * capacity * row);
            source.limit(head * capacity * row + length * row);
            target.position(head * grown * row);
            target.put(source);
        }
    }

    /** Returns the place of the largest logit, the first of equal ones. */
    static int best(ByteBuffer logits) {
        ByteBuffer values = logits.order(ByteOrder.nativeOrder());
        int best = 0;
        float most = Float.NEGATIVE_INFINITY;
        for (int place = 0; place < values.limit() / 4; place++) {
            float value = values.getFloat(4 * place);
            if (Float.isNaN(value)) {
                throw new EdgeException(
                        EdgeException.Code.RUNTIME,
                        "generation: found logits that are not numbers, expected numbers; the "
                                + "bundle or its adapter is broken");
            }
            if (value > most) {
                most = value;
                best = place;
            }
        }
        return best;
    }

    /** Frees onnxruntime's views; every later use is an error. */
    @Override
    public void close() {
        broken = true;
        Session.close(fixed.values());
        Session.close(Collections.singleton(outputs.get(LOGITS)));
        buffers.clear();
    }
}
