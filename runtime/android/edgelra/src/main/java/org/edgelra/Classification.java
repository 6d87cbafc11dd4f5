package org.edgelra;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jetbrains.annotations.NotNull;

/** The best label of a text, its score, and the scores of all. */
public final class Classification {
    private final String label;
    private final double score;
    private final Map<String, Double> scores;

    private Classification(String label, double score, Map<String, Double> scores) {
        this.label = label;
        this.score = score;
        this.scores = Collections.unmodifiableMap(scores);
    }

    /**
     * Scores one row of logits. As in transformers' losses, a single logit without a problem type
     * is a regression.
     *
     * @param labels one an output; null for LABEL_0 and so on.
     */
    static Classification of(float[] logits, List<String> labels, String problemType) {
        if (labels != null && !labels.isEmpty() && labels.size() != logits.length) {
            throw EdgeException.damaged(
                    "labels: found " + labels.size() + ", expected " + logits.length
                            + ", one an output");
        }
        double[] values = values(logits, problemType);
        Map<String, Double> scores = new LinkedHashMap<>();
        String label = "";
        double score = Double.NEGATIVE_INFINITY;
        for (int place = 0; place < values.length; place++) {
            boolean named = labels != null && !labels.isEmpty();
            String name = named ? labels.get(place) : "LABEL_" + place;
            scores.put(name, values[place]);
            if (place == 0 || values[place] > score) {
                label = name;
                score = values[place];
            }
        }
        return new Classification(label, score, scores);
    }

    private static double[] values(float[] logits, String problemType) {
        boolean plain = "regression".equals(problemType)
                || (problemType == null && logits.length == 1);
        boolean several = "multi_label_classification".equals(problemType);
        double[] values = new double[logits.length];
        double most = Double.NEGATIVE_INFINITY;
        for (float logit : logits) {
            most = Math.max(most, logit);
        }
        double sum = 0;
        for (int place = 0; place < values.length; place++) {
            double logit = logits[place];
            if (plain) {
                values[place] = logit;
            } else if (several) {
                values[place] = 0.5 * (1.0 + Math.tanh(0.5 * logit)); // the sigmoid, no overflow
            } else {
                values[place] = Math.exp(logit - most);
                sum += values[place];
            }
        }
        for (int place = 0; !plain && !several && place < values.length; place++) {
            values[place] /= sum;
        }
        return values;
    }

    /** Returns the best label. */
    @NotNull
    public String getLabel() {
        return label;
    }

    /** Returns its score: a probability, or a regression's value. */
    public double getScore() {
        return score;
    }

    /** Returns the score of each label, in the order of the outputs. */
    @NotNull
    public Map<String, Double> getScores() {
        return scores;
    }

    /** Returns label and score. */
    @Override
    @NotNull
    public String toString() {
        return label + " " + score;
    }
}
