package org.edgelra;

import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/** Token inputs, checked against the manifest before onnxruntime sees them. */
final class Inputs {
    private static final String IDS = "input_ids";
    private static final String MASK = "attention_mask";
    private static final String TYPES = "token_type_ids";

    private Inputs() {}

    /**
     * Returns the inputs as the graph wants them.
     *
     * @throws EdgeException INVALID_ARGUMENT.
     */
    static Map<String, Tensor> check(Map<String, Tensor> inputs, Manifest manifest) {
        Map<String, TensorSpec> specs = new LinkedHashMap<>();
        for (TensorSpec spec : manifest.inputs) {
            specs.put(spec.getName(), spec);
        }
        String expected = Text.join(", ", specs.keySet());
        TreeSet<String> unknown = new TreeSet<>(inputs.keySet());
        unknown.removeAll(specs.keySet());
        if (!unknown.isEmpty()) {
            throw EdgeException.invalid(
                    "inputs: found \"" + unknown.first() + "\", expected " + expected);
        }
        Map<String, Tensor> given = withTypes(inputs, specs);
        Map<String, Tensor> checked = new LinkedHashMap<>();
        Map<String, Long> sizes = new HashMap<>();
        for (TensorSpec spec : specs.values()) {
            Tensor tensor = given.get(spec.getName());
            if (tensor == null) {
                throw EdgeException.invalid(
                        "inputs: found no \"" + spec.getName() + "\", expected " + expected);
            }
            checkShape(spec, tensor.shape(), sizes);
            checked.put(spec.getName(), typed(spec, tensor));
        }
        checkTokens(checked, manifest, sizes);
        return checked;
    }

    /** Adds zeros for token types that were not given. */
    private static Map<String, Tensor> withTypes(
            Map<String, Tensor> inputs, Map<String, TensorSpec> specs) {
        Tensor ids = inputs.get(IDS);
        if (!specs.containsKey(TYPES) || inputs.get(TYPES) != null || ids == null) {
            return inputs;
        }
        Map<String, Tensor> given = new LinkedHashMap<>(inputs);
        given.put(TYPES, Tensor.zeros(DType.INT64, ids.shape()));
        return given;
    }

    /** Compares a shape; {@code sizes} collects what each named axis measures. */
    private static void checkShape(TensorSpec spec, long[] found, Map<String, Long> sizes) {
        List<Axis> axes = spec.axes();
        if (found.length != axes.size()) {
            throw EdgeException.invalid(
                    spec.getName() + ": found " + found.length + " axes " + Arrays.toString(found)
                            + ", expected " + axes);
        }
        for (int place = 0; place < found.length; place++) {
            Axis axis = axes.get(place);
            if (axis.isNamed() && !sizes.containsKey(axis.name)) {
                sizes.put(axis.name, found[place]);
            }
            long wanted = axis.isNamed() ? sizes.get(axis.name) : axis.size;
            if (found[place] != wanted || found[place] == 0) {
                throw EdgeException.invalid(
                        spec.getName() + ": found shape " + Arrays.toString(found) + ", expected "
                                + axis + "=" + (wanted == 0 ? "at least 1" : wanted));
            }
        }
    }

    /** Returns the values in the graph's type: integers of any width serve as integers. */
    private static Tensor typed(TensorSpec spec, Tensor tensor) {
        DType wanted = spec.getDtype();
        if (tensor.getDtype() == wanted) {
            return tensor;
        }
        if (!wanted.isInteger() || !tensor.getDtype().isInteger()) {
            throw EdgeException.invalid(
                    spec.getName() + ": found " + tensor.getDtype() + ", expected " + wanted);
        }
        Tensor converted = Tensor.zeros(wanted, tensor.shape());
        for (long place = 0; place < tensor.getCount(); place++) {
            long value = tensor.longAt(place);
            converted.putLong(place, value);
            if (converted.longAt(place) != value) {
                throw EdgeException.invalid(
                        spec.getName() + ": found " + value + ", expected values of " + wanted);
            }
        }
        return converted;
    }

    private static void checkTokens(
            Map<String, Tensor> inputs, Manifest manifest, Map<String, Long> sizes) {
        Tensor ids = inputs.get(IDS);
        if (manifest.decoder != null) {
            checkWhole(ids, inputs.get(MASK));
        }
        if (manifest.vocabularySize > 0 && ids != null && ids.getDtype().isInteger()) {
            checkIds(IDS, ids.toLongs(), manifest.vocabularySize);
        }
        Long tokens = sizes.get("sequence");
        if (manifest.maxLength > 0 && tokens != null && tokens > manifest.maxLength) {
            throw EdgeException.invalid(
                    "inputs: found " + tokens + " tokens, expected at most " + manifest.maxLength
                            + "; truncate them");
        }
    }

    /** Refuses padding, which a decoder's attention would take for tokens. */
    private static void checkWhole(Tensor ids, Tensor mask) {
        long zeros = 0;
        for (long value : mask.toLongs()) {
            zeros += value == 0 ? 1 : 0;
        }
        if (zeros > 0 || !Arrays.equals(mask.shape(), ids.shape())) {
            throw EdgeException.invalid(
                    MASK + ": found " + Arrays.toString(mask.shape()) + " with " + zeros
                            + " zeros, expected " + Arrays.toString(ids.shape())
                            + " of ones; run rows of different lengths apart");
        }
    }

    /** Refuses ids that are not of the vocabulary: onnxruntime would take -1 for the last one. */
    static void checkIds(String where, long[] ids, long vocabulary) {
        for (long id : ids) {
            if (id < 0 || id >= vocabulary) {
                throw EdgeException.invalid(
                        where + ": found " + id + ", expected ids of 0 to " + (vocabulary - 1));
            }
        }
    }

    /** Returns the inputs of token rows (rows, tokens) of one length, all attended. */
    static Map<String, Tensor> ofTokens(Tensor ids) {
        Map<String, Tensor> inputs = new LinkedHashMap<>();
        inputs.put(IDS, ids);
        inputs.put(MASK, Tensor.ones(DType.INT64, ids.shape()));
        return inputs;
    }
}
