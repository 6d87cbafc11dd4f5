package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GoldenComparisonTest {
    @TempDir File folder;
    private final Map<String, String> entries = Samples.entries();

    /** Writes one case of two rows of two logits, and compares what was found with it. */
    private GoldenReport compare(float[] recorded, float[] exact, float[] found)
            throws IOException {
        String shape = "\"dtype\": \"F32\", \"shape\": [2, 2], \"data_offsets\": ";
        String header = "{\"output.0.logits\": {" + shape + "[0, 16]}, \"float.0.logits\": {"
                + shape + "[16, 32]}, \"input.0.ids\": {\"dtype\": \"I64\", \"shape\": [0], "
                + "\"data_offsets\": [32, 32]}}";
        ByteBuffer file =
                ByteBuffer.allocate(8 + header.length() + 32).order(ByteOrder.LITTLE_ENDIAN);
        file.putLong(header.length()).put(header.getBytes(StandardCharsets.UTF_8));
        for (float[] values : new float[][] {recorded, exact}) {
            for (float value : values) {
                file.putFloat(value);
            }
        }
        Files.write(new File(folder, "golden.safetensors").toPath(), file.array());
        entries.put("golden", "{\"adapters\": [null], \"kernel_spread\": 0.01}");
        Manifest manifest = Samples.manifest(entries);
        List<GoldenCase> cases = GoldenCase.read(folder, manifest);
        Map<String, Tensor> output =
                Collections.singletonMap("logits", Tensor.ofFloats(found, 2, 2));
        return GoldenComparison.compare(
                manifest,
                cases,
                Collections.singletonList(output),
                Collections.singletonList(null));
    }

    @Test
    void distancesAndChoicesAreCounted() throws IOException {
        float[] exact = {0, 2, 1, 1.05f};
        float[] recorded = {0.1f, 2, 1, 1};
        float[] found = {0.2f, 2, 1, 0.9f};
        GoldenReport report = compare(recorded, exact, found);
        assertEquals(1, report.getCases());
        assertEquals(0.1, report.getMaxAbsError(), 1e-6);
        assertEquals(0.2, report.getMaxAbsErrorFloat(), 1e-6);
        assertEquals(0.1, report.getRecordedErrorFloat(), 1e-6);
        assertEquals(1.5 * 0.1 + 0.01 * 2 + 1e-4, report.getAllowedErrorFloat(), 1e-6);
        assertFalse(report.isClose());
        assertEquals(1, report.getDecided()); // the second row's margin is below what is allowed
        assertEquals(1, report.getAgreed());
    }

    @Test
    void anotherLabelIsNoAgreement() throws IOException {
        float[] exact = {0, 2, 3, 0};
        GoldenReport report = compare(exact, exact, new float[] {2, 0, 3, 0});
        assertEquals(2, report.getDecided());
        assertEquals(1, report.getAgreed());
    }

    @Test
    void independentLabelsAreEachAChoiceAgainstZero() throws IOException {
        entries.put("problem_type", "\"multi_label_classification\"");
        float[] exact = {-2, 2, 0, 3};
        GoldenReport report = compare(exact, exact, new float[] {2, 2, -1, 3});
        assertEquals(3, report.getDecided());
        assertEquals(2, report.getAgreed());
    }

    @Test
    void notANumberIsNotClose() throws IOException {
        float[] exact = {0, 2, 3, 0};
        GoldenReport report = compare(exact, exact, new float[] {Float.NaN, 2, 3, 0});
        assertTrue(Double.isNaN(report.getMaxAbsErrorFloat()));
        assertFalse(report.isClose());
    }

    @Test
    void aBundleWithoutCasesHasNone() {
        assertTrue(GoldenCase.read(folder, Samples.manifest(entries)).isEmpty());
    }
}
