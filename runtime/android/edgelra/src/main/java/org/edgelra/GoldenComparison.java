package org.edgelra;

import java.util.List;
import java.util.Map;

/** Holds a run's outputs against the golden cases: the rule of every runner. */
final class GoldenComparison {
    /** Outputs whose largest entry is the answer. */
    private static final String[] CHOICES = {"logits", "start_logits", "end_logits"};

    private final String problemType;
    private final double share;
    private double own;
    private double exact;
    private double recorded;
    private double largest;
    private long decided;
    private long agreed;

    private GoldenComparison(String problemType, double share) {
        this.problemType = problemType;
        this.share = share;
    }

    /**
     * Compares.
     *
     * @param cases the golden cases.
     * @param outputs what was found, a case an entry.
     * @param next the tokens found after the recorded ones, a case an entry; null for other models.
     */
    static GoldenReport compare(
            Manifest manifest,
            List<GoldenCase> cases,
            List<Map<String, Tensor>> outputs,
            List<long[]> next) {
        GoldenComparison all =
                new GoldenComparison(manifest.getProblemType(), manifest.kernelSpread);
        for (int index = 0; index < cases.size(); index++) {
            all.measure(cases.get(index), outputs.get(index));
        }
        double spread = all.share * all.largest;
        double allowed = GoldenReport.allowed(all.recorded, spread);
        for (int index = 0; index < cases.size(); index++) {
            all.choose(cases.get(index), outputs.get(index), next.get(index), allowed);
        }
        return new GoldenReport(
                cases.size(),
                all.own,
                all.exact,
                all.recorded,
                spread,
                all.decided,
                all.agreed);
    }

    private void measure(GoldenCase golden, Map<String, Tensor> found) {
        for (Map.Entry<String, Tensor> entry : golden.outputs.entrySet()) {
            Tensor answer = found.get(entry.getKey());
            if (answer == null) {
                throw EdgeException.damaged(
                        GoldenCase.FILE + ": found an answer of " + entry.getKey()
                                + ", expected the graph's outputs; export again");
            }
            float[] value = answer.toFloats();
            float[] before = entry.getValue().toFloats();
            float[] model = golden.exact.get(entry.getKey()).toFloats();
            own = Math.max(own, distance(entry.getKey(), value, before));
            exact = Math.max(exact, distance(entry.getKey(), value, model));
            recorded = Math.max(recorded, distance(entry.getKey(), before, model));
            largest = Math.max(largest, distance(entry.getKey(), model, new float[model.length]));
        }
    }

    private void choose(
            GoldenCase golden, Map<String, Tensor> found, long[] next, double allowed) {
        for (String name : CHOICES) {
            Tensor model = golden.exact.get(name);
            if (model == null || "regression".equals(problemType) || model.shape().length == 0) {
                continue;
            }
            int width = (int) model.shape()[model.shape().length - 1];
            count(model.toFloats(), found.get(name).toFloats(), width, allowed);
        }
        for (int step = 0; golden.tokens != null && step < golden.tokens.length; step++) {
            if (golden.margins[step] > allowed) {
                decided++;
                agreed += next[step] == golden.tokens[step] ? 1 : 0;
            }
        }
    }

    /** Counts rows of choices; where labels are independent, each is one against zero. */
    private void count(float[] model, float[] found, int width, double allowed) {
        if ("multi_label_classification".equals(problemType)) {
            for (int place = 0; place < model.length; place++) {
                boolean same = (model[place] >= 0) == (found[place] >= 0);
                count(Math.abs(model[place]) > allowed, same);
            }
            return;
        }
        for (int start = 0; width > 1 && start < model.length; start += width) {
            int best = best(model, start, width, -1);
            int second = best(model, start, width, best);
            boolean clear = model[start + best] - model[start + second] > allowed;
            count(clear, best == best(found, start, width, -1));
        }
    }

    private void count(boolean clear, boolean same) {
        if (clear) {
            decided++;
            agreed += same ? 1 : 0;
        }
    }

    private static int best(float[] values, int start, int width, int but) {
        int best = but == 0 ? 1 : 0;
        for (int place = 0; place < width; place++) {
            if (place != but && values[start + place] > values[start + best]) {
                best = place;
            }
        }
        return best;
    }

    private static double distance(String name, float[] left, float[] right) {
        if (left.length != right.length) {
            throw EdgeException.damaged(
                    GoldenCase.FILE + ": " + name + ": found " + left.length
                            + " values, expected " + right.length);
        }
        double most = 0;
        for (int place = 0; place < left.length; place++) {
            most = Math.max(most, Math.abs(left[place] - right[place])); // NaN stays NaN
        }
        return most;
    }
}
