package org.edgelra;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** One batch of the golden vectors: what goes in, and what came out at export. */
final class GoldenCase {
    static final String FILE = "golden.safetensors";
    private static final long MAX_BYTES = Integer.MAX_VALUE - 8;

    final String adapter; // null for none
    final Map<String, Tensor> inputs;
    final Map<String, Tensor> outputs; // the bundle's at export
    final Map<String, Tensor> exact; // the float model's
    final long[] tokens; // a language model's greedy ones; null for other models
    final float[] margins; // of each, over the next smaller logit

    private GoldenCase(String adapter, Map<String, Tensor> tensors, int index) {
        this.adapter = adapter;
        this.inputs = part(tensors, "input." + index + ".");
        this.outputs = part(tensors, "output." + index + ".");
        this.exact = part(tensors, "float." + index + ".");
        Map<String, Tensor> greedy = part(tensors, "greedy." + index + ".");
        this.tokens = greedy.isEmpty() ? null : entry(greedy, "tokens", index).toLongs();
        this.margins = greedy.isEmpty() ? null : entry(greedy, "margins", index).toFloats();
        boolean whole = !inputs.isEmpty()
                && !outputs.isEmpty()
                && outputs.keySet().equals(exact.keySet());
        for (String name : whole ? outputs.keySet() : Collections.<String>emptySet()) {
            whole &= Arrays.equals(outputs.get(name).shape(), exact.get(name).shape());
        }
        if (!whole) {
            throw EdgeException.damaged(
                    FILE + ": case " + index + ": found it without its inputs or answers, "
                            + "expected them; export again");
        }
        if (tokens != null && tokens.length != margins.length) {
            throw EdgeException.damaged(FILE + ": case " + index + ": tokens and margins differ");
        }
    }

    /**
     * Reads a bundle's cases; none where it was not verified.
     *
     * @throws EdgeException NOT_FOUND or DAMAGED.
     */
    static List<GoldenCase> read(File folder, Manifest manifest) {
        if (manifest.goldenAdapters.isEmpty()) {
            return Collections.emptyList();
        }
        File file = BundlePaths.resolve(folder, FILE);
        Map<String, Tensor> tensors;
        try {
            tensors = Safetensors.read(file.getPath(), FileBytes.read(file, MAX_BYTES));
        } catch (IOException error) {
            throw new EdgeException(
                    EdgeException.Code.NOT_FOUND,
                    file + ": cannot be read: " + EdgeException.firstLine(error),
                    error);
        }
        List<GoldenCase> cases = new ArrayList<>();
        for (String adapter : manifest.goldenAdapters) {
            cases.add(new GoldenCase(adapter, tensors, cases.size()));
        }
        return cases;
    }

    private static Map<String, Tensor> part(Map<String, Tensor> tensors, String prefix) {
        Map<String, Tensor> found = new LinkedHashMap<>();
        for (Map.Entry<String, Tensor> entry : tensors.entrySet()) {
            if (entry.getKey().startsWith(prefix)) {
                found.put(entry.getKey().substring(prefix.length()), entry.getValue());
            }
        }
        return found;
    }

    private static Tensor entry(Map<String, Tensor> tensors, String name, int index) {
        Tensor found = tensors.get(name);
        if (found == null) {
            throw EdgeException.damaged(FILE + ": case " + index + ": lacks " + name);
        }
        return found;
    }
}
