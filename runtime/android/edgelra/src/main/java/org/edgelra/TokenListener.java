package org.edgelra;

/** Is told of each new token while text is generated, on the generating thread. */
public interface TokenListener {
    /**
     * Takes a token.
     *
     * @param token its id.
     * @return whether to go on; false ends the generation.
     */
    boolean onToken(long token);
}
