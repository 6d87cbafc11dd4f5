package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.function.Executable;

/** Expectations that several tests share. */
final class Expect {
    private Expect() {}

    /** Expects a mistake of a kind whose one line holds the parts. */
    static void mistake(EdgeException.Code code, Executable call, String... parts) {
        EdgeException error = assertThrows(EdgeException.class, call);
        assertEquals(code, error.getCode(), error.getMessage());
        assertFalse(error.getMessage().contains("\n"), error.getMessage());
        for (String part : parts) {
            assertTrue(error.getMessage().contains(part), error.getMessage() + " lacks " + part);
        }
    }

    static void damaged(Executable call, String... parts) {
        mistake(EdgeException.Code.DAMAGED, call, parts);
    }

    static void invalid(Executable call, String... parts) {
        mistake(EdgeException.Code.INVALID_ARGUMENT, call, parts);
    }
}
