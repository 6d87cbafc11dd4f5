package org.edgelra;

import java.util.ArrayList;
import java.util.List;

/** An axis of a shape in the manifest: a size, or a name that stands for any. */
final class Axis {
    /** Null where the size is given. */
    final String name;

    final long size;

    private Axis(String name, long size) {
        this.name = name;
        this.size = size;
    }

    boolean isNamed() {
        return name != null;
    }

    @Override
    public String toString() {
        return name == null ? Long.toString(size) : name;
    }

    static List<Axis> read(Fields fields, String entry) {
        List<Axis> axes = new ArrayList<>();
        for (Object value : fields.list(entry)) {
            if (value instanceof String) {
                axes.add(new Axis((String) value, 0));
            } else if (value instanceof Long && (Long) value >= 0) {
                axes.add(new Axis(null, (Long) value));
            } else {
                throw EdgeException.damaged(
                        fields.where() + ": " + entry + ": found " + value
                                + ", expected sizes and names");
            }
        }
        return axes;
    }
}
