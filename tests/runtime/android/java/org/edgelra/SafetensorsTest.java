package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SafetensorsTest {
    private static final String A =
            "\"a\": {\"dtype\": \"U8\", \"shape\": [2, 3], \"data_offsets\": [0, 6]}";

    private static Map<String, Tensor> read(String header, int size) {
        return Safetensors.read("f", Samples.safetensors(header, size));
    }

    @Test
    void tensorsKeepTypeShapeAndValues() {
        String header = "{\"__metadata__\": {\"format\": \"pt\"}, " + A
                + ", \"empty\": {\"dtype\": \"F32\", \"shape\": [4, 0], \"data_offsets\": [6, 6]}"
                + ", \"b\": {\"dtype\": \"I16\", \"shape\": [2], \"data_offsets\": [6, 10]}}";
        Map<String, Tensor> found = read(header, 10);
        assertEquals(3, found.size());
        assertEquals("uint8[2, 3]", found.get("a").toString());
        assertArrayEquals(new long[] {0, 1, 2, 3, 4, 5}, found.get("a").toLongs());
        assertArrayEquals(new long[] {0x0706, 0x0908}, found.get("b").toLongs());
        assertEquals(0, found.get("empty").getCount());
        assertTrue(found.get("b").buffer().isDirect());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "{A}|5|outside of the file",
                "{A}|7|1 bytes behind the last tensor",
                "{A, \"b\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [5, 6]}}|6|overlap",
                "{A, \"b\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [7, 8]}}|8|gaps",
                "{A, \"b\": {\"dtype\": \"U8\", \"shape\": [6], \"data_offsets\": [0, 6]}}|6|overlap",
                "{A, A}|6|twice",
                "{\"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 6]}}|6|6 bytes",
                "{\"a\": {\"dtype\": \"U8\", \"shape\": [-6], \"data_offsets\": [0, 6]}}|6|6 bytes",
                "{\"a\": {\"dtype\": \"Q4\", \"shape\": [6], \"data_offsets\": [0, 6]}}|6|Q4",
                "{\"a\": {\"dtype\": \"U8\", \"shape\": [6], \"data_offsets\": [6, 0]}}|6|outside",
                "{\"a\": {\"dtype\": \"U8\", \"shape\": [6], \"data_offsets\": [0]}}|6|outside",
                "{\"a\": {\"dtype\": \"U8\", \"shape\": [6]}}|6|data_offsets",
                "{\"a\": 3}|6|expected an object",
                "[]|0|expected an object",
                "{|0|JSON",
            })
    void whatDoesNotFitIsRefused(String header, int size, String expected) {
        Expect.damaged(() -> read(header.replace("A", A), size), expected);
    }

    @Test
    void aSizeThatOverflowsIsRefused() {
        String shape = "[4294967296, 4294967296, 6]"; // 6 * 2^64, which is 0 in 64 bits
        String header =
                "{\"a\": {\"dtype\": \"U8\", \"shape\": " + shape + ", \"data_offsets\": [0, 0]}}";
        Expect.damaged(() -> read(header, 0), "expected those of its type and shape");
    }

    @Test
    void theHeaderIsInsideTheFileAndNotHuge() {
        for (long length : new long[] {17L << 20, 1000, -1, Long.MIN_VALUE}) {
            ByteBuffer file = ByteBuffer.allocate(100).order(ByteOrder.LITTLE_ENDIAN);
            file.putLong(0, length);
            Expect.damaged(() -> Safetensors.read("f", file), "f: found a header of");
        }
        Expect.damaged(() -> Safetensors.read("f", ByteBuffer.allocate(7)), "found 7 bytes");
    }

    @Test
    void anyChangedByteIsReadOrRefusedInOneLine() {
        ByteBuffer file = Samples.safetensors("{" + A + "}", 6);
        Random random = new Random(1);
        int refused = 0;
        for (int round = 0; round < 20_000; round++) {
            byte[] data = file.array().clone();
            for (int change = 0; change < 1 + round % 3; change++) {
                data[random.nextInt(data.length)] = (byte) random.nextInt(256);
            }
            try {
                Safetensors.read("f", ByteBuffer.wrap(data));
            } catch (EdgeException error) {
                assertEquals(EdgeException.Code.DAMAGED, error.getCode());
                refused++;
            }
        }
        assertTrue(refused > 10_000);
    }
}
