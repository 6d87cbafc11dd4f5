package org.edgelra;

import org.jetbrains.annotations.NotNull;

/** The type of a tensor's values, as numpy, safetensors and the manifest name it. */
public enum DType {
    FLOAT32("float32", "F32", 4, Kind.FLOAT),
    FLOAT64("float64", "F64", 8, Kind.FLOAT),
    FLOAT16("float16", "F16", 2, Kind.FLOAT),
    BFLOAT16("bfloat16", "BF16", 2, Kind.FLOAT),
    INT64("int64", "I64", 8, Kind.INTEGER),
    INT32("int32", "I32", 4, Kind.INTEGER),
    INT16("int16", "I16", 2, Kind.INTEGER),
    INT8("int8", "I8", 1, Kind.INTEGER),
    UINT8("uint8", "U8", 1, Kind.INTEGER),
    BOOL("bool", "BOOL", 1, Kind.INTEGER);

    private enum Kind {
        FLOAT,
        INTEGER
    }

    private final String text;
    private final String stored;
    private final int width;
    private final Kind kind;

    DType(String text, String stored, int width, Kind kind) {
        this.text = text;
        this.stored = stored;
        this.width = width;
        this.kind = kind;
    }

    /** Returns the bytes of one value. */
    public int getWidth() {
        return width;
    }

    /** Tells integers and truth values from floats. */
    public boolean isInteger() {
        return kind == Kind.INTEGER;
    }

    /** Returns numpy's name, such as {@code float32}. */
    @Override
    @NotNull
    public String toString() {
        return text;
    }

    /** Finds a type by numpy's name. */
    static DType named(String where, String name) {
        for (DType dtype : values()) {
            if (dtype.text.equals(name)) {
                return dtype;
            }
        }
        throw new EdgeException(
                EdgeException.Code.UNSUPPORTED,
                where + ": found the type " + name + ", expected one that this runner knows");
    }

    /** Finds a type by its name in a safetensors header. */
    static DType stored(String where, String name) {
        for (DType dtype : values()) {
            if (dtype.stored.equals(name)) {
                return dtype;
            }
        }
        throw EdgeException.damaged(
                where + ": found the type " + name + ", expected one that this runner knows");
    }
}
