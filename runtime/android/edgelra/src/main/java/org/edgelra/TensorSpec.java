package org.edgelra;

import java.util.Collections;
import java.util.List;
import org.jetbrains.annotations.NotNull;

/** An input or output of the graph, as the manifest describes it. */
public final class TensorSpec {
    private final String name;
    private final DType dtype;
    private final List<Axis> axes;
    private final long[] example; // null where the manifest gives none

    TensorSpec(String name, DType dtype, List<Axis> axes, long[] example) {
        this.name = name;
        this.dtype = dtype;
        this.axes = Collections.unmodifiableList(axes);
        this.example = example;
    }

    static TensorSpec read(Fields fields) {
        String name = fields.text("name");
        DType dtype = DType.named(name, fields.text("dtype"));
        List<Axis> axes = Axis.read(fields, "shape");
        long[] example = fields.has("example") ? fields.wholes("example") : null;
        if (example != null && example.length != axes.size()) {
            throw EdgeException.damaged(
                    fields.where() + ": example: found " + example.length + " sizes, expected "
                            + axes.size());
        }
        return new TensorSpec(name, dtype, axes, example);
    }

    /** Returns its name in the graph. */
    @NotNull
    public String getName() {
        return name;
    }

    /** Returns the type of its values. */
    @NotNull
    public DType getDtype() {
        return dtype;
    }

    /** Returns sizes and names of its axes, such as {@code [batch, sequence]}. */
    @NotNull
    public String getShape() {
        return axes.toString();
    }

    List<Axis> axes() {
        return axes;
    }

    long[] example() {
        return example;
    }
}
