package org.edgelra;

import java.util.Arrays;
import java.util.List;

/** A graph input that an adapter fills. */
final class AdapterInput {
    /** The leading axis of a decoder's inputs, which hold several adapters; a file holds one. */
    private static final String STACKED = "adapters";

    private static final List<String> HEAD_ROLES = Arrays.asList("weight", "bias");

    final String name;
    final DType dtype;

    /** The axes of one adapter's tensor. */
    final List<Axis> axes;

    /** Zeros of the empty shape that turns the factors off. */
    final Tensor off;

    private final boolean isHead;

    private AdapterInput(String name, DType dtype, List<Axis> axes, boolean isHead) {
        this.isHead = isHead;
        this.name = name;
        this.dtype = dtype;
        this.axes = axes;
        long[] shape = new long[axes.size()];
        for (int place = 0; place < shape.length; place++) {
            shape[place] = axes.get(place).size; // 0 where a name stands
        }
        this.off = Tensor.zeros(dtype, shape);
    }

    static AdapterInput read(Fields fields) {
        TensorSpec spec = TensorSpec.read(fields);
        List<Axis> axes = spec.axes();
        boolean stacked = !axes.isEmpty() && STACKED.equals(axes.get(0).name);
        return new AdapterInput(
                spec.getName(),
                spec.getDtype(),
                stacked ? axes.subList(1, axes.size()) : axes,
                HEAD_ROLES.contains(fields.textOrNull("role")));
    }

    /** Tells whether an adapter may leave this input out; a task's head never. */
    boolean canBeOff() {
        return off.getCount() == 0 && !isHead;
    }
}
