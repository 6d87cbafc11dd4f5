package org.edgelra;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** Times runs of one shape: after a warm-up, as many as fit into the budget. */
final class Profiler {
    private static final int WARM_UP = 2;
    static final double BUDGET_MS = 5000;
    private static final int LEAST_RUNS = 5;
    private static final double NS_A_MS = 1e6;

    private Profiler() {}

    /** Returns the milliseconds of each run; no new one once the budget is used up. */
    static double[] time(Runnable run, double budgetMs) {
        for (int round = 0; round < WARM_UP; round++) {
            run.run();
        }
        double[] latenciesMs = new double[64];
        int runs = 0;
        long start = System.nanoTime();
        while (runs < LEAST_RUNS || (System.nanoTime() - start) / NS_A_MS < budgetMs) {
            if (runs == latenciesMs.length) {
                latenciesMs = Arrays.copyOf(latenciesMs, 2 * runs);
            }
            long begin = System.nanoTime();
            run.run();
            latenciesMs[runs++] = (System.nanoTime() - begin) / NS_A_MS;
        }
        return Arrays.copyOf(latenciesMs, runs);
    }

    /**
     * Returns inputs of a shape: random ids, every token attended; other inputs have the sizes of
     * the export's example, floats of a normal distribution, integers 0 and truth values true.
     */
    static Map<String, Tensor> inputs(Manifest manifest, int batch, int tokens) {
        Random random = new Random(0);
        Map<String, Tensor> inputs = new LinkedHashMap<>();
        for (TensorSpec spec : manifest.inputs) {
            long[] sizes = sizes(spec, batch, tokens);
            inputs.put(spec.getName(), values(spec, sizes, manifest.vocabularySize, random));
        }
        return inputs;
    }

    private static Tensor values(TensorSpec spec, long[] sizes, long vocabulary, Random random) {
        DType dtype = spec.getDtype();
        if (spec.getName().equals("attention_mask") || dtype == DType.BOOL) {
            return Tensor.ones(dtype, sizes);
        }
        Tensor tensor = Tensor.zeros(dtype, sizes);
        boolean ids = spec.getName().equals("input_ids") && dtype.isInteger() && vocabulary > 1;
        for (long place = 0; ids && place < tensor.getCount(); place++) {
            tensor.putLong(place, 1 + (long) (random.nextDouble() * (vocabulary - 1)));
        }
        if (dtype == DType.FLOAT32) {
            float[] values = new float[(int) tensor.getCount()];
            for (int place = 0; place < values.length; place++) {
                values[place] = (float) random.nextGaussian();
            }
            return Tensor.ofFloats(values, sizes);
        }
        return tensor;
    }

    private static long[] sizes(TensorSpec spec, int batch, int tokens) {
        List<Axis> axes = spec.axes();
        long[] sizes = new long[axes.size()];
        for (int place = 0; place < sizes.length; place++) {
            Axis axis = axes.get(place);
            if (!axis.isNamed()) {
                sizes[place] = axis.size;
            } else if (axis.name.equals("batch")) {
                sizes[place] = batch;
            } else if (axis.name.equals("sequence") || axis.name.equals("total_sequence")) {
                sizes[place] = tokens;
            } else {
                sizes[place] = spec.example() == null ? 1 : spec.example()[place];
            }
        }
        return sizes;
    }
}
