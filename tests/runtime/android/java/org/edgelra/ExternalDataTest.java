package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;

class ExternalDataTest {
    private static byte[] entry(String key, String value) {
        return Samples.join(Samples.field(1, key), Samples.field(2, value));
    }

    private static byte[] tensor(String location) {
        return Samples.field(13, entry("location", location));
    }

    private static Set<String> locations(byte[] model) {
        return ExternalData.locations("model.onnx", ByteBuffer.wrap(model));
    }

    private static byte[] graph(byte[]... fields) {
        return Samples.field(7, Samples.join(fields));
    }

    private static byte[] attribute(int field, byte[] content) {
        return Samples.field(1, Samples.field(5, Samples.field(field, content)));
    }

    @Test
    void everyPlaceOfATensorIsSearched() {
        byte[] sparse = Samples.join(Samples.field(1, tensor("v")), Samples.field(2, tensor("i")));
        byte[] model =
                Samples.join(
                        Samples.field(2, "producer"),
                        graph(
                                Samples.field(5, tensor("initializer")),
                                Samples.field(15, sparse),
                                attribute(5, tensor("t")),
                                attribute(10, tensor("tensors")),
                                attribute(6, Samples.field(5, tensor("g"))),
                                attribute(11, attribute(6, Samples.field(5, tensor("inner")))),
                                attribute(22, Samples.field(1, tensor("sparse"))),
                                attribute(23, Samples.field(2, tensor("sparses")))),
                        Samples.field(25, attributeOfNode(tensor("function"))),
                        Samples.field(25, Samples.field(11, Samples.field(5, tensor("default")))));
        assertEquals(
                new LinkedHashSet<>(
                        Arrays.asList(
                                "initializer", "v", "i", "t", "tensors", "g", "inner", "sparse",
                                "sparses", "function", "default")),
                locations(model));
    }

    private static byte[] attributeOfNode(byte[] tensor) {
        return Samples.field(7, Samples.field(5, Samples.field(5, tensor)));
    }

    @Test
    void otherEntriesAreNoLocations() {
        byte[] other = Samples.field(13, entry("offset", "4096"));
        assertEquals(Collections.emptySet(), locations(graph(Samples.field(5, other))));
    }

    @Test
    void ofRepeatedKeysAndValuesEachCounts() {
        byte[] twice =
                Samples.field(
                        13,
                        Samples.join(
                                Samples.field(1, "offset"),
                                Samples.field(2, "/etc/passwd"),
                                Samples.field(1, "location"),
                                Samples.field(2, "model.onnx.data")));
        Set<String> found = locations(graph(Samples.field(5, twice)));
        assertTrue(found.contains("/etc/passwd") && found.contains("model.onnx.data"));
    }

    @Test
    void aFileThatIsNotListedIsRefused() {
        ByteBuffer model = ByteBuffer.wrap(graph(Samples.field(5, tensor("../secret"))));
        Set<String> files = Collections.singleton("model.onnx.data");
        Expect.damaged(() -> ExternalData.check("m", model, files), "\"../secret\"");
        ByteBuffer empty = ByteBuffer.wrap(
                graph(Samples.field(5, Samples.field(13, Samples.field(1, "location")))));
        Expect.damaged(() -> ExternalData.check("m", empty, files), "found weights in \"\"");
    }

    @Test
    void whatIsNoProtobufIsRefused() {
        Expect.damaged(() -> locations(new byte[] {0x3a, 5, 1}), "5 bytes");
        Expect.damaged(() -> locations(new byte[] {0x3b}), "wire type 3");
        Expect.damaged(() -> locations(new byte[] {0}), "field number 0");
        Expect.damaged(() -> locations(new byte[] {(byte) 0x80}), "end in a number");
        byte[] endless = new byte[11];
        Arrays.fill(endless, (byte) 0xff);
        Expect.damaged(() -> locations(endless), "more than ten bytes");
    }

    @Test
    void depthIsLimited() {
        byte[] inner = Samples.field(5, tensor("x"));
        for (int depth = 0; depth < 1000; depth++) {
            inner = attribute(6, inner);
        }
        byte[] deep = Samples.field(7, inner);
        Expect.damaged(() -> locations(deep), "deeper than 64");
    }

    @Test
    void aRealModelHasItsOneFile() throws IOException {
        String bundle = System.getProperty("edge-lra.bundle");
        ByteBuffer model = FileBytes.read(new File(bundle, "model.onnx"), Integer.MAX_VALUE);
        assertEquals(
                Collections.singleton("model.onnx.data"), ExternalData.locations("m", model));
    }

    @Test
    void anyChangedByteIsReadOrRefused() throws IOException {
        byte[] model =
                graph(
                        Samples.field(5, tensor("model.onnx.data")),
                        attribute(6, Samples.field(5, tensor("model.onnx.data"))));
        Random random = new Random(2);
        int refused = 0;
        for (int round = 0; round < 20_000; round++) {
            byte[] data = model.clone();
            data[random.nextInt(data.length)] = (byte) random.nextInt(256);
            try {
                locations(data);
            } catch (EdgeException error) {
                assertEquals(EdgeException.Code.DAMAGED, error.getCode());
                refused++;
            }
        }
        assertTrue(refused > 1000);
    }
}
