package org.edgelra;

import org.jetbrains.annotations.NotNull;
import org.jetbrains.annotations.Nullable;

/** How text is generated. Immutable; each {@code with} method returns a changed copy. */
public final class GenerateOptions {
    /** At most 256 new tokens, the default adapter, the model's own stop tokens. */
    @NotNull
    public static final GenerateOptions DEFAULT = new GenerateOptions(256, false, null, null);

    final int maxTokens;
    final boolean adapterChosen;
    final String adapter;
    final long[] stopTokens; // null: the manifest's

    private GenerateOptions(
            int maxTokens, boolean adapterChosen, String adapter, long[] stopTokens) {
        this.maxTokens = maxTokens;
        this.adapterChosen = adapterChosen;
        this.adapter = adapter;
        this.stopTokens = stopTokens;
    }

    /**
     * Sets the most new tokens; with the prompt they must fit into the context.
     *
     * @throws EdgeException INVALID_ARGUMENT: less than 1.
     */
    @NotNull
    public GenerateOptions withMaxTokens(int count) {
        if (count < 1) {
            throw EdgeException.invalid("max_tokens: found " + count + ", expected at least 1");
        }
        return new GenerateOptions(count, adapterChosen, adapter, stopTokens);
    }

    /** Sets the adapter; null for factors that are off. */
    @NotNull
    public GenerateOptions withAdapter(@Nullable String name) {
        return new GenerateOptions(maxTokens, true, name, stopTokens);
    }

    /** Sets the tokens that end the text; none lets it run to the most tokens. */
    @NotNull
    public GenerateOptions withStopTokens(@NotNull long... ids) {
        return new GenerateOptions(maxTokens, adapterChosen, adapter, ids.clone());
    }
}
