package org.edgelra;

import org.jetbrains.annotations.NotNull;

/** What was generated behind one prompt. */
public final class Generation {
    /** Why a generation ended. */
    public enum StoppedBy {
        /** A stop token came; it is the last of the tokens. */
        STOP_TOKEN,
        /** As many tokens came as were asked for. */
        MAX_TOKENS,
        /** The listener asked for the end. */
        LISTENER
    }

    private final long[] tokens;
    private final int promptTokens;
    private final StoppedBy stoppedBy;
    private final double prefillS;
    private final double decodeS;

    Generation(
            long[] tokens, int promptTokens, StoppedBy stoppedBy, double prefillS, double decodeS) {
        this.tokens = tokens;
        this.promptTokens = promptTokens;
        this.stoppedBy = stoppedBy;
        this.prefillS = prefillS;
        this.decodeS = decodeS;
    }

    /** Returns all new tokens, the stop token among them. */
    @NotNull
    public long[] getTokens() {
        return tokens.clone();
    }

    /** Returns how many tokens the prompt has. */
    public int getPromptTokens() {
        return promptTokens;
    }

    /** Returns why it ended. */
    @NotNull
    public StoppedBy getStoppedBy() {
        return stoppedBy;
    }

    /** Returns the seconds to read the prompt, which gives the first token. */
    public double getPrefillS() {
        return prefillS;
    }

    /** Returns the seconds from then on. */
    public double getDecodeS() {
        return decodeS;
    }

    /** Returns the tokens a second behind the first. */
    public double getTokensPerS() {
        return decodeS > 0 ? (tokens.length - 1) / decodeS : 0.0;
    }
}
