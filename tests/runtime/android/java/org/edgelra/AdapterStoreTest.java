package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AdapterStoreTest {
    private static final String DOWN =
            "\"down\": {\"dtype\": \"F32\", \"shape\": [4, 2], \"data_offsets\": [0, 32]}";

    @TempDir File folder;
    private final Map<String, String> entries = Samples.entries();

    @BeforeEach
    void makeFolder() {
        assertTrue(new File(folder, "adapters").mkdir());
    }

    private static String up(int rank) {
        return "\"up\": {\"dtype\": \"F32\", \"shape\": [" + rank + ", 6], \"data_offsets\": [32, "
                + (32 + 24 * rank) + "]}";
    }

    private AdapterStore store(String header, int size) throws IOException {
        ByteBuffer content = Samples.safetensors(header, size);
        File file = new File(folder, "adapters/one.safetensors");
        try (FileOutputStream out = new FileOutputStream(file)) {
            out.write(content.array(), 0, content.limit());
        }
        entries.put(
                "files",
                "{\"adapters/one.safetensors\": {\"size\": " + content.limit() + ", \"sha256\": \""
                        + Hashes.of(content) + "\"}}");
        return new AdapterStore(folder, Samples.manifest(entries), true);
    }

    @Test
    void tensorsAreReadOnceAndKept() throws IOException {
        AdapterStore store = store("{" + DOWN + ", " + up(2) + "}", 80);
        assertEquals("float32[2, 6]", store.tensors("one").get("up").toString());
        assertSame(store.tensors("one"), store.tensors("one"));
        assertEquals("[one]", store.names().toString());
        assertEquals("[bad, good]", store.labels("one").toString());
    }

    @Test
    void whatAnAdapterLeavesOutIsOff() throws IOException {
        AdapterStore store = store("{" + DOWN + "}", 32);
        assertEquals("float32[0, 6]", store.tensors("one").get("up").toString());
        assertEquals("float32[4, 0]", store.tensors(null).get("down").toString());
    }

    @Test
    void ranksOfOneNameAreEqual() throws IOException {
        AdapterStore store = store("{" + DOWN + ", " + up(3) + "}", 104);
        Expect.damaged(
                () -> store.tensors("one"), "adapter one: up: found float32[3, 6], expected float32");
    }

    @Test
    void tensorsWithoutAnInputAreRefused() throws IOException {
        AdapterStore store = store(
                "{" + DOWN.replace("down", "sideways") + "}", 32);
        Expect.damaged(() -> store.tensors("one"), "the graph has no input \"sideways\"");
    }

    @Test
    void aForeignAdapterIsToldByBothBases() throws IOException {
        entries.put("base_fingerprint", "\"" + Samples.repeat("c", 64) + "\"");
        AdapterStore store = store("{" + DOWN + "}", 32);
        Expect.mistake(
                EdgeException.Code.FOREIGN_ADAPTER,
                () -> store.tensors("one"),
                "found base bbbbbbbbbbbb, expected cccccccccccc");
    }

    @Test
    void aChangedFileIsRefusedUnlessNothingIsVerified() throws IOException {
        store("{" + DOWN + "}", 32);
        Map<String, String> before = Samples.entries();
        before.put("files", "{\"adapters/one.safetensors\": {\"size\": 1, \"sha256\": \"00\"}}");
        Manifest manifest = Samples.manifest(before);
        Expect.damaged(
                () -> new AdapterStore(folder, manifest, true).tensors("one"), "changed since export");
        assertEquals(2, new AdapterStore(folder, manifest, false).tensors("one").size());
    }

    @Test
    void anUnlistedFileIsRefused() throws IOException {
        store("{" + DOWN + "}", 32);
        Manifest manifest = Samples.manifest(Samples.entries());
        Expect.damaged(
                () -> new AdapterStore(folder, manifest, true).tensors("one"), "changed since export");
    }

    @Test
    void aMissingFileAndAnUnknownNameAreTold() throws IOException {
        AdapterStore store = new AdapterStore(folder, Samples.manifest(entries), true);
        Expect.mistake(EdgeException.Code.NOT_FOUND, () -> store.tensors("one"), "cannot be read");
        Expect.invalid(() -> store.tensors("two"), "found \"two\", expected one of: one");
    }

    @Test
    void aHeadThatAdaptersBringCannotBeOff() {
        entries.put("head", "\"adapter\"");
        AdapterStore store = new AdapterStore(folder, Samples.manifest(entries), true);
        Expect.invalid(() -> store.tensors(null), "found none, expected one of: one", "head");
    }

    @Test
    void aMergedBundleSaysSo() {
        entries.put("adapter_inputs", "[]");
        entries.put("mode", "\"merged\"");
        AdapterStore store = new AdapterStore(folder, Samples.manifest(entries), true);
        Expect.invalid(() -> store.tensors("one"), "expected one of: none (the bundle is merged)");
        assertTrue(store.tensors(null).isEmpty());
    }
}
