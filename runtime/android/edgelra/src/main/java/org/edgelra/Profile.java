package org.edgelra;

import org.jetbrains.annotations.NotNull;
import org.jetbrains.annotations.Nullable;

/** Latencies and memory of one shape, measured where the code runs. */
public final class Profile {
    private final int batch;
    private final int tokens;
    private final String adapter;
    private final double[] latenciesMs;
    private final double loadMs;
    private final double firstRunMs;
    private final Double peakRssMib;

    Profile(
            int batch,
            int tokens,
            String adapter,
            double[] latenciesMs,
            double loadMs,
            double firstRunMs,
            Double peakRssMib) {
        this.batch = batch;
        this.tokens = tokens;
        this.adapter = adapter;
        this.latenciesMs = latenciesMs;
        this.loadMs = loadMs;
        this.firstRunMs = firstRunMs;
        this.peakRssMib = peakRssMib;
    }

    /** Returns the rows of a run. */
    public int getBatch() {
        return batch;
    }

    /** Returns the tokens of a row. */
    public int getTokens() {
        return tokens;
    }

    /** Returns the adapter that was on; null for none. */
    @Nullable
    public String getAdapter() {
        return adapter;
    }

    /** Returns the milliseconds of each timed run, in order. */
    @NotNull
    public double[] getLatenciesMs() {
        return latenciesMs.clone();
    }

    /** Returns the milliseconds below which so many percent of the runs stayed. */
    public double percentileMs(double percent) {
        return Statistics.percentile(latenciesMs, percent);
    }

    /** Returns the median. */
    public double getP50Ms() {
        return percentileMs(50);
    }

    /** Returns the 90th percentile. */
    public double getP90Ms() {
        return percentileMs(90);
    }

    /** Returns the 95th percentile. */
    public double getP95Ms() {
        return percentileMs(95);
    }

    /** Returns the 99th percentile; of fewer than 100 runs it is next to the maximum. */
    public double getP99Ms() {
        return percentileMs(99);
    }

    /** Returns the fastest run. */
    public double getMinMs() {
        return percentileMs(0);
    }

    /** Returns the mean. */
    public double getMeanMs() {
        return Statistics.mean(latenciesMs);
    }

    /** Returns the milliseconds that opening the bundle took, checks of its files included. */
    public double getLoadMs() {
        return loadMs;
    }

    /** Returns the milliseconds of the runner's first run, which is slower than later ones. */
    public double getFirstRunMs() {
        return firstRunMs;
    }

    /** Returns the most MiB that the process has had in memory; null where it cannot be read. */
    @Nullable
    public Double getPeakRssMib() {
        return peakRssMib;
    }
}
