package org.edgelra;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** How to feed a language model's cache. */
final class DecoderSpec {
    final int kvHeads;
    final int headSize;
    final int contextLength;

    /** The names of past and present, of keys and values of each layer; of one size. */
    final List<String> past;

    final List<String> present;

    /** Null for a bundle whose adapter is merged. */
    final String adapterIndex;

    final long[] eosTokenIds;

    DecoderSpec(Fields fields) {
        kvHeads = fields.count("kv_heads");
        headSize = fields.count("head_size");
        contextLength = fields.count("context_length");
        List<String> pasts = new ArrayList<>();
        List<String> presents = new ArrayList<>();
        for (Fields entry : fields.objects("cache")) {
            pasts.add(entry.text("past"));
            presents.add(entry.text("present"));
        }
        past = Collections.unmodifiableList(pasts);
        present = Collections.unmodifiableList(presents);
        adapterIndex = fields.textOrNull("adapter_index");
        eosTokenIds = fields.wholes("eos_token_ids");
    }
}
