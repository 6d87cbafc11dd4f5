package org.edgelra;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/** Small manifests and files to change in one place. */
final class Samples {
    static final String BASE = repeat("b", 64);

    private Samples() {}

    static String repeat(String text, int count) {
        StringBuilder all = new StringBuilder();
        for (int place = 0; place < count; place++) {
            all.append(text);
        }
        return all.toString();
    }

    static ByteBuffer bytes(String text) {
        return ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
    }

    /** Returns the entries of a classifier's manifest, each as JSON, to be changed. */
    static Map<String, String> entries() {
        Map<String, String> entries = new LinkedHashMap<>();
        entries.put("format_version", "1");
        entries.put("name", "\"sample\"");
        entries.put("task", "\"sequence-classification\"");
        entries.put("mode", "\"factored\"");
        entries.put("problem_type", "\"single_label_classification\"");
        entries.put("labels", "[\"bad\", \"good\"]");
        entries.put(
                "inputs",
                "[{\"name\": \"input_ids\", \"dtype\": \"int64\", \"shape\": [\"batch\","
                        + " \"sequence\"], \"example\": null},"
                        + "{\"name\": \"token_type_ids\", \"dtype\": \"int64\", \"shape\":"
                        + " [\"batch\", \"sequence\"], \"example\": null}]");
        entries.put(
                "outputs",
                "[{\"name\": \"logits\", \"dtype\": \"float32\", \"shape\": [\"batch\", 2]}]");
        entries.put("adapter_inputs", "[" + input("down", "[4, \"r\"]", "[4, 0]") + ", "
                + input("up", "[\"r\", 6]", "[0, 6]") + "]");
        entries.put("adapters", "{\"one\": {\"file\": \"adapters/one.safetensors\", \"rank\": 2,"
                + " \"labels\": null, \"base\": \"" + BASE + "\"}}");
        entries.put("default_adapter", "\"one\"");
        entries.put("head", "\"trained\"");
        entries.put("base_fingerprint", "\"" + BASE + "\"");
        entries.put("tokenizer", "null");
        entries.put("min_onnxruntime", "\"1.20.0\"");
        entries.put("session_options", "{\"session.x64quantprecision\": true, \"other\": 3}");
        entries.put("max_length", "8");
        entries.put("vocabulary_size", "100");
        entries.put("decoder", "null");
        entries.put("golden", "{\"count\": 0, \"adapters\": [], \"kernel_spread\": 0.5}");
        entries.put("files", "{}");
        return entries;
    }

    private static String input(String name, String shape, String off) {
        return "{\"name\": \"" + name + "\", \"dtype\": \"float32\", \"shape\": " + shape
                + ", \"off_shape\": " + off + "}";
    }

    /** Returns the manifest's file, sealed as an export does. */
    static ByteBuffer sealed(Map<String, String> entries) {
        StringBuilder text = new StringBuilder("{\n \"sha256\": \"" + repeat("0", 64) + "\"");
        for (Map.Entry<String, String> entry : entries.entrySet()) {
            text.append(",\n \"").append(entry.getKey()).append("\": ").append(entry.getValue());
        }
        String open = text.append("\n}\n").toString();
        return bytes(open.replaceFirst(repeat("0", 64), Hashes.of(open)));
    }

    static Manifest manifest(Map<String, String> entries) {
        return ManifestReader.parse("manifest.json", sealed(entries));
    }

    /** Returns a safetensors file of a header and as many bytes, counted up from 0. */
    static ByteBuffer safetensors(String header, int size) {
        byte[] json = header.getBytes(StandardCharsets.UTF_8);
        ByteBuffer file = ByteBuffer.allocate(8 + json.length + size).order(ByteOrder.LITTLE_ENDIAN);
        file.putLong(json.length).put(json);
        for (int place = 0; place < size; place++) {
            file.put((byte) place);
        }
        file.flip();
        return file;
    }

    /** Returns a protobuf field with a length. */
    static byte[] field(int number, byte[] content) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        varint(out, (long) number << 3 | 2);
        varint(out, content.length);
        out.write(content, 0, content.length);
        return out.toByteArray();
    }

    static byte[] field(int number, String content) {
        return field(number, content.getBytes(StandardCharsets.UTF_8));
    }

    static byte[] join(byte[]... parts) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            out.write(part, 0, part.length);
        }
        return out.toByteArray();
    }

    static void varint(ByteArrayOutputStream out, long value) {
        long rest = value;
        while ((rest & ~0x7fL) != 0) {
            out.write((int) (rest & 0x7f | 0x80));
            rest >>>= 7;
        }
        out.write((int) rest);
    }
}
