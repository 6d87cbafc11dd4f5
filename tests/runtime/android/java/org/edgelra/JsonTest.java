package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.nio.ByteBuffer;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class JsonTest {
    private static Object parse(String text) {
        return Json.parse("file", Samples.bytes(text));
    }

    @Test
    void valuesKeepTheirKind() {
        Fields fields =
                Json.object("file", Samples.bytes("{\"a\": [1, -2.5, \"\\u00e9\", true, null]}"));
        assertEquals(Arrays.asList(1L, -2.5, "é", true, null), fields.list("a"));
        assertNull(fields.raw("b"));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "", "{", "{\"a\": }", "[1,]", "{'a': 1}", "{a: 1}", "[1] 2", "// x\n1", "[NaN]",
                "{\"a\": 1, \"a\": 2}", "[1e999]x", "[99999999999999999999]", "\u0000"
            })
    void whatIsNoStrictJsonIsRefused(String text) {
        Expect.damaged(() -> parse(text), "file: found");
    }

    @Test
    void bytesThatAreNoTextAreRefused() {
        ByteBuffer broken = ByteBuffer.wrap(new byte[] {'"', (byte) 0xc3, (byte) 0x28, '"'});
        Expect.damaged(() -> Json.parse("file", broken), "UTF-8");
    }

    @Test
    void depthIsLimitedAndNotTheStack() {
        parse(Samples.repeat("[", 64) + "1" + Samples.repeat("]", 64));
        for (int depth : new int[] {65, 1_000_000}) {
            String deep = Samples.repeat("[", depth) + Samples.repeat("]", depth);
            Expect.damaged(() -> parse(deep), "deeper than 64");
        }
        Expect.damaged(() -> parse(Samples.repeat("{\"a\":", 100_000)), "deeper than 64");
    }

    @Test
    void aWrongTypeIsToldWithItsPlace() {
        Fields fields = Json.object("file", Samples.bytes("{\"a\": {\"b\": 1.5}, \"c\": []}"));
        Expect.damaged(() -> fields.object("a").text("b"), "file: a: b: found 1.5, expected a string");
        Expect.damaged(() -> fields.object("a").whole("b", 0, 9), "a whole number of 0 to 9");
        Expect.damaged(() -> fields.object("c"), "file: c: found a list, expected an object");
        Expect.damaged(() -> fields.list("d"), "file: d: found nothing, expected a list");
    }
}
