package org.edgelra;

import org.jetbrains.annotations.NotNull;

/** How far answers to the golden cases are from those recorded at export. */
public final class GoldenReport {
    /** int8 roundings may flip between processors' float kernels; the float model judges then. */
    private static final double SLACK = 1.5;

    private static final double ROUNDING = 1e-4; // of float32 in a bundle without int8

    private final int cases;
    private final double maxAbsError;
    private final double maxAbsErrorFloat;
    private final double recordedErrorFloat;
    private final double kernelSpread;
    private final long decided;
    private final long agreed;

    GoldenReport(
            int cases,
            double maxAbsError,
            double maxAbsErrorFloat,
            double recordedErrorFloat,
            double kernelSpread,
            long decided,
            long agreed) {
        this.cases = cases;
        this.maxAbsError = maxAbsError;
        this.maxAbsErrorFloat = maxAbsErrorFloat;
        this.recordedErrorFloat = recordedErrorFloat;
        this.kernelSpread = kernelSpread;
        this.decided = decided;
        this.agreed = agreed;
    }

    static double allowed(double recordedErrorFloat, double kernelSpread) {
        return SLACK * recordedErrorFloat + kernelSpread + ROUNDING;
    }

    /** Returns how many cases ran; 0 where the bundle was exported without verification. */
    public int getCases() {
        return cases;
    }

    /** Returns the largest distance from the outputs recorded at export. */
    public double getMaxAbsError() {
        return maxAbsError;
    }

    /** Returns the largest distance from the float model's outputs. */
    public double getMaxAbsErrorFloat() {
        return maxAbsErrorFloat;
    }

    /** Returns what that was at export. */
    public double getRecordedErrorFloat() {
        return recordedErrorFloat;
    }

    /** Returns the distance from the float model that an answer may have. */
    public double getAllowedErrorFloat() {
        return allowed(recordedErrorFloat, kernelSpread);
    }

    /**
     * Returns the best labels that the float model chooses by more than the allowed error; of a
     * language model also the tokens that the bundle chose so at export.
     */
    public long getDecided() {
        return decided;
    }

    /** Returns how many of them were chosen here, too. */
    public long getAgreed() {
        return agreed;
    }

    /** Tells whether no answer is further from the float model than allowed; NaN is not. */
    public boolean isClose() {
        return maxAbsErrorFloat <= getAllowedErrorFloat();
    }

    /** Returns all figures in one line. */
    @Override
    @NotNull
    public String toString() {
        return "cases=" + cases
                + " max_abs_error=" + maxAbsError
                + " max_abs_error_float=" + maxAbsErrorFloat
                + " allowed_error_float=" + getAllowedErrorFloat()
                + " decided=" + decided
                + " agreed=" + agreed;
    }
}
