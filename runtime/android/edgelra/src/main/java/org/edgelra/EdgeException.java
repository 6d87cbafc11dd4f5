package org.edgelra;

import org.jetbrains.annotations.NotNull;
import org.jetbrains.annotations.Nullable;

/**
 * A mistake that the caller can fix, told in one line: where, what was found, what was expected and
 * the remedy. The code says which kind it is.
 */
public final class EdgeException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** The kind of a mistake; the same names in every runner. */
    public enum Code {
        /** An argument of this call: an input's name, type or shape, an option, an adapter's name. */
        INVALID_ARGUMENT,
        /** The bundle or one of its files is not there. */
        NOT_FOUND,
        /** A file has other bytes than were exported, or is malformed. */
        DAMAGED,
        /** A newer bundle format, an onnxruntime that is too old or absent, another kind of model. */
        UNSUPPORTED,
        /** The adapter was made for another base. */
        FOREIGN_ADAPTER,
        /** onnxruntime failed. */
        RUNTIME,
        /** There is not enough memory. */
        OUT_OF_MEMORY,
        /** The runner was closed. */
        CLOSED,
        /** Answers are further from the float model than allowed. */
        GATE_FAILED
    }

    private final Code code;

    EdgeException(@NotNull Code code, @NotNull String message) {
        this(code, message, null);
    }

    EdgeException(@NotNull Code code, @NotNull String message, @Nullable Throwable cause) {
        super(message, cause);
        this.code = code;
    }

    /** Returns which kind of mistake it is. */
    @NotNull
    public Code getCode() {
        return code;
    }

    static EdgeException invalid(String message) {
        return new EdgeException(Code.INVALID_ARGUMENT, message);
    }

    static EdgeException damaged(String message) {
        return new EdgeException(Code.DAMAGED, message);
    }

    /** Returns the first line of what a library says, or the name of its class. */
    static String firstLine(Throwable error) {
        String text = error.getMessage() == null ? "" : error.getMessage().trim();
        int end = text.indexOf('\n');
        String line = end < 0 ? text : text.substring(0, end).trim();
        return line.isEmpty() ? error.getClass().getSimpleName() : line;
    }
}
