package org.edgelra;

import java.util.Arrays;

/** Figures of repeated measurements. */
final class Statistics {
    private Statistics() {}

    /** Returns a percentile between the two nearest values, as numpy's default does. */
    static double percentile(double[] values, double percent) {
        double[] ordered = values.clone();
        Arrays.sort(ordered);
        double place = percent / 100.0 * (ordered.length - 1);
        int below = (int) Math.floor(place);
        int above = Math.min(below + 1, ordered.length - 1);
        return ordered[below] + (place - below) * (ordered[above] - ordered[below]);
    }

    static double mean(double[] values) {
        double sum = 0;
        for (double value : values) {
            sum += value;
        }
        return sum / values.length;
    }
}
