package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class FiguresTest {
    private static final List<String> LABELS = Arrays.asList("bad", "good");

    @Test
    void percentilesLieBetweenTheNearestValuesAsNumpys() {
        double[] values = {4, 1, 3, 2};
        assertEquals(2.5, Statistics.percentile(values, 50), 1e-12);
        assertEquals(3.7, Statistics.percentile(values, 90), 1e-12);
        assertEquals(1, Statistics.percentile(values, 0));
        assertEquals(4, Statistics.percentile(values, 100));
        assertEquals(7, Statistics.percentile(new double[] {7}, 99));
        assertEquals(2.5, Statistics.mean(values));
    }

    @Test
    void aProfilesFiguresAreOfItsRuns() {
        Profile profile = new Profile(1, 8, "x", new double[] {1, 2, 3, 4, 5}, 10, 20, null);
        assertEquals(3, profile.getP50Ms());
        assertEquals(4.6, profile.getP90Ms(), 1e-12);
        assertEquals(4.8, profile.getP95Ms(), 1e-12);
        assertEquals(4.96, profile.getP99Ms(), 1e-12);
        assertEquals(1, profile.getMinMs());
        assertEquals(3, profile.getMeanMs());
    }

    @Test
    void labelsAreScoredByTheProblem() {
        Classification soft = Classification.of(new float[] {0, 1}, LABELS, null);
        assertEquals("good", soft.getLabel());
        assertEquals(1 / (1 + Math.exp(-1)), soft.getScore(), 1e-12);
        assertEquals(1, soft.getScores().values().stream().mapToDouble(x -> x).sum(), 1e-12);
        Classification several =
                Classification.of(new float[] {0, -1000}, LABELS, "multi_label_classification");
        assertEquals(0.5, several.getScores().get("bad"));
        assertEquals(0, several.getScores().get("good"));
        Classification value = Classification.of(new float[] {-3}, null, null);
        assertEquals(-3, value.getScore());
        assertEquals("LABEL_0", value.getLabel());
        assertEquals(
                5, Classification.of(new float[] {4, 5}, LABELS, "regression").getScore());
        Classification large = Classification.of(new float[] {1000, 999}, LABELS, null);
        assertEquals(1 / (1 + Math.exp(-1)), large.getScore(), 1e-12);
    }

    @Test
    void labelsOfAnotherCountAreRefused() {
        Expect.damaged(
                () -> Classification.of(new float[3], LABELS, null), "found 2, expected 3");
    }

    @Test
    void versionsAreComparedAsNumbers() {
        assertTrue(Versions.isOlder("1.9.0", "1.20.0"));
        assertFalse(Versions.isOlder("1.20", "1.20.0"));
        assertFalse(Versions.isOlder("1.21.0-rc1", "1.20.1"));
        assertTrue(Versions.isOlder("", "0.0.1"));
        Expect.mistake(
                EdgeException.Code.UNSUPPORTED,
                () -> Versions.check("b", "1.2.0", "1.20.0"),
                "found onnxruntime 1.2.0, expected 1.20.0 or newer");
        Versions.check("b", "1.2.0", null);
    }

    @Test
    void productsOfSizesDoNotOverflow() {
        assertEquals(24, Sizes.product(2, 3, 4));
        assertEquals(1, Sizes.product());
        assertEquals(0, Sizes.product(0, Long.MAX_VALUE, 3));
        assertEquals(-1, Sizes.product(1L << 32, 1L << 32));
        assertEquals(-1, Sizes.product(0, -1));
    }

    @Test
    void theLikeliestTokenIsTheFirstOfEqualOnesAndANumber() {
        Tensor logits = Tensor.ofFloats(new float[] {-1, 5, 5, 2}, 4);
        assertEquals(1, KeyValueCache.best(logits.buffer()));
        Tensor broken = Tensor.ofFloats(new float[] {1, Float.NaN}, 2);
        Expect.mistake(
                EdgeException.Code.RUNTIME,
                () -> KeyValueCache.best(broken.buffer()),
                "not numbers");
    }

    @Test
    void promptsFitIntoTheContext() {
        GreedyDecoder.checkRoom(4, 6, 10);
        Expect.invalid(() -> GreedyDecoder.checkRoom(0, 1, 10), "found no tokens");
        Expect.invalid(() -> GreedyDecoder.checkRoom(10, 1, 10), "expected fewer than 10");
        Expect.invalid(() -> GreedyDecoder.checkRoom(4, 7, 10), "expected at most 6");
    }

    @Test
    void timedRunsWarmUpFirstAndAreAtLeastFive() {
        int[] runs = {0};
        double[] found = Profiler.time(() -> sleep(runs), 60);
        assertEquals(5, found.length);
        assertEquals(7, runs[0]);
        assertTrue(found[0] >= 19);
        assertTrue(Profiler.time(() -> runs[0]++, 20).length > 100);
    }

    private static void sleep(int[] runs) {
        runs[0]++;
        try {
            Thread.sleep(20);
        } catch (InterruptedException error) {
            throw new AssertionError(error);
        }
    }

    @Test
    void profiledInputsAreOfTheShape() {
        Manifest manifest = Samples.manifest(Samples.entries());
        Map<String, Tensor> inputs = Profiler.inputs(manifest, 2, 5);
        assertArrayEquals(new long[] {2, 5}, inputs.get("input_ids").getShape());
        for (long id : inputs.get("input_ids").toLongs()) {
            assertTrue(id >= 1 && id < 100);
        }
        Inputs.check(inputs, manifest);
    }

    @Test
    void optionsRefuseWhatIsOutOfRange() {
        Expect.invalid(() -> RunnerOptions.DEFAULT.withThreads(0), "expected 1 to 1024");
        Expect.invalid(() -> RunnerOptions.DEFAULT.withThreads(1025), "found 1025");
        Expect.invalid(() -> RunnerOptions.DEFAULT.withContext(1), "expected at least 2");
        Expect.invalid(() -> GenerateOptions.DEFAULT.withMaxTokens(0), "expected at least 1");
    }
}
