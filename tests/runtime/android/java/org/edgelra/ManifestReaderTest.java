package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ManifestReaderTest {
    private static Manifest changed(String name, String json) {
        Map<String, String> entries = Samples.entries();
        entries.put(name, json);
        return Samples.manifest(entries);
    }

    @Test
    void entriesAreRead() {
        Manifest manifest = Samples.manifest(Samples.entries());
        assertEquals("sequence-classification", manifest.getTask());
        assertEquals("[batch, sequence]", manifest.getInputs().get(0).getShape());
        assertEquals("{session.x64quantprecision=1, other=3}", manifest.sessionOptions.toString());
        assertEquals(8, manifest.maxLength);
        assertArrayEquals(new long[] {4, 0}, manifest.adapterInputs.get(0).off.getShape());
        assertEquals(0.5, manifest.kernelSpread);
    }

    @Test
    void otherBytesThanWereSealedAreDamage() {
        ByteBuffer file = Samples.sealed(Samples.entries());
        for (int place : new int[] {20, 90, file.limit() - 4}) {
            byte[] data = file.array().clone();
            data[place] = (byte) (data[place] == '0' ? '1' : '0');
            Expect.damaged(() -> ManifestReader.parse("m", ByteBuffer.wrap(data)), "m: ");
        }
        Expect.damaged(
                () -> ManifestReader.parse("m", Samples.bytes(
                        "{\"format_version\": 1, \"files\": {}, \"base_fingerprint\": \"\"}")),
                "is damaged");
    }

    @Test
    void aNewerFormatIsToldBeforeAnythingElse() {
        Expect.mistake(
                EdgeException.Code.UNSUPPORTED,
                () -> changed("format_version", "2"),
                "found bundle format 2, expected 1");
    }

    @ParameterizedTest
    @ValueSource(strings = {"[]", "3", "{}", "{\"format_version\": 1}"})
    void anotherKindOfFileIsRefused(String text) {
        Expect.damaged(() -> ManifestReader.parse("m", Samples.bytes(text)), "m: found");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "/etc/passwd", "../x", "a/../../x", "a\\\\..\\\\x", "C:/x", "", ".", "a//b", "a/",
                "a/./b", "x\\u0000"
            })
    void pathsStayInside(String name) {
        String file = "{\"" + name + "\": {\"size\": 1, \"sha256\": \"\"}}";
        Expect.damaged(() -> changed("files", file), "expected files inside the bundle");
        String adapter = "{\"a\": {\"file\": \"" + name + "\", \"base\": \"\"}}";
        Expect.damaged(() -> changed("adapters", adapter), "expected files inside the bundle");
        String tokenizer = "{\"file\": \"" + name + "\"}";
        Expect.damaged(() -> changed("tokenizer", tokenizer), "expected files inside the bundle");
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "inputs|3",
                "inputs|[{\"name\": \"x\", \"dtype\": \"int64\", \"shape\": [-1]}]",
                "inputs|[{\"name\": \"x\", \"shape\": []}]",
                "files|{\"a\": {\"size\": -1, \"sha256\": \"\"}}",
                "files|[]",
                "labels|\"positive\"",
                "max_length|0",
                "decoder|{\"kv_heads\": 0}",
                "golden|{\"kernel_spread\": \"much\"}",
                "adapters|[]",
            })
    void entriesOfAnotherTypeAreDamage(String name, String json) {
        Expect.damaged(() -> changed(name, json), "manifest.json: " + name);
    }

    @Test
    void anUnknownTypeOfValuesIsToldByName() {
        String inputs = "[{\"name\": \"x\", \"dtype\": \"complex64\", \"shape\": [1]}]";
        Expect.mistake(
                EdgeException.Code.UNSUPPORTED, () -> changed("inputs", inputs), "complex64");
    }

    @Test
    void aFolderWithoutManifestIsNoBundle(@TempDir File folder) {
        Expect.mistake(
                EdgeException.Code.NOT_FOUND, () -> ManifestReader.read(folder), "expected a bundle");
        assertTrue(new File(folder, "manifest.json").mkdir());
        Expect.mistake(EdgeException.Code.NOT_FOUND, () -> ManifestReader.read(folder));
    }

    @Test
    void aHugeManifestIsNotRead(@TempDir File folder) throws IOException {
        try (RandomAccessFile file =
                new RandomAccessFile(new File(folder, "manifest.json"), "rw")) {
            file.setLength((16 << 20) + 1);
        }
        Expect.damaged(() -> ManifestReader.read(folder), "expected at most 16777216");
    }
}
