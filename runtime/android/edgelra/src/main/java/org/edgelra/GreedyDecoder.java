package org.edgelra;

import java.util.Arrays;

/** The loop of generation: read the prompt, then take the likeliest token again and again. */
final class GreedyDecoder {
    private static final double NS_A_SECOND = 1e9;

    private final KeyValueCache cache;
    private final long[] stopTokens;
    private final long[] tokens; // as many as may come
    private final TokenListener listener;
    private int count;
    private Generation.StoppedBy stoppedBy;

    GreedyDecoder(KeyValueCache cache, int maxTokens, long[] stopTokens, TokenListener listener) {
        this.cache = cache;
        this.tokens = new long[maxTokens];
        this.stopTokens = stopTokens;
        this.listener = listener;
    }

    Generation run(long[] prompt) {
        long start = System.nanoTime();
        long next = KeyValueCache.best(cache.read(prompt));
        long read = System.nanoTime();
        take(next);
        while (stoppedBy == null) {
            take(KeyValueCache.best(cache.read(new long[] {tokens[count - 1]})));
        }
        return new Generation(
                Arrays.copyOf(tokens, count),
                prompt.length,
                stoppedBy,
                (read - start) / NS_A_SECOND,
                (System.nanoTime() - read) / NS_A_SECOND);
    }

    private void take(long token) {
        tokens[count++] = token;
        boolean goOn = listener == null || listener.onToken(token);
        for (long stop : stopTokens) {
            if (token == stop) {
                stoppedBy = Generation.StoppedBy.STOP_TOKEN;
                return;
            }
        }
        if (!goOn) {
            stoppedBy = Generation.StoppedBy.LISTENER;
        } else if (count == tokens.length) {
            stoppedBy = Generation.StoppedBy.MAX_TOKENS;
        }
    }

    /** Refuses what does not fit into the context. */
    static void checkRoom(int prompt, int maxTokens, int context) {
        if (prompt == 0) {
            throw EdgeException.invalid("prompt: found no tokens, expected at least one");
        }
        if (prompt >= context) {
            throw EdgeException.invalid(
                    "prompt: found " + prompt + " tokens, expected fewer than " + context
                            + ", the context; shorten it");
        }
        if (maxTokens > context - prompt) {
            throw EdgeException.invalid(
                    "max_tokens: found " + maxTokens + " behind a prompt of " + prompt
                            + ", expected at most " + (context - prompt) + " in a context of "
                            + context + "; lower it");
        }
    }
}
