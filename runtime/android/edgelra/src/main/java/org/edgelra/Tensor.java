package org.edgelra;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import org.jetbrains.annotations.NotNull;

/**
 * A dense array in row-major order. Its type and shape never change; whoever makes one from a
 * buffer lets the buffer be.
 */
public final class Tensor {
    private final DType dtype;
    private final long[] shape;
    private final ByteBuffer data; // the machine's byte order, from 0 to its limit

    private Tensor(DType dtype, long[] shape, ByteBuffer data) {
        this.dtype = dtype;
        this.shape = shape;
        this.data = data;
    }

    /**
     * Takes a buffer in the machine's byte order, from its position to its limit, without a copy.
     * onnxruntime reads a direct buffer where it is and copies another one for each run.
     *
     * @throws EdgeException INVALID_ARGUMENT: the size is not the shape's.
     */
    @NotNull
    public static Tensor of(@NotNull DType dtype, @NotNull ByteBuffer data, @NotNull long... shape) {
        ByteBuffer own = data.slice().order(ByteOrder.nativeOrder());
        long expected = bytes(dtype, shape);
        if (own.remaining() != expected) {
            throw EdgeException.invalid(
                    "tensor: found " + own.remaining() + " bytes, expected " + expected + " for "
                            + dtype + Arrays.toString(shape));
        }
        return new Tensor(dtype, shape.clone(), own);
    }

    /** Copies int64 values, such as token ids, into a tensor of a shape. */
    @NotNull
    public static Tensor ofLongs(@NotNull long[] values, @NotNull long... shape) {
        Tensor tensor = allocate(DType.INT64, values.length, shape);
        tensor.data.asLongBuffer().put(values);
        return tensor;
    }

    /** Copies int32 values. */
    @NotNull
    public static Tensor ofInts(@NotNull int[] values, @NotNull long... shape) {
        Tensor tensor = allocate(DType.INT32, values.length, shape);
        tensor.data.asIntBuffer().put(values);
        return tensor;
    }

    /** Copies float32 values. */
    @NotNull
    public static Tensor ofFloats(@NotNull float[] values, @NotNull long... shape) {
        Tensor tensor = allocate(DType.FLOAT32, values.length, shape);
        tensor.data.asFloatBuffer().put(values);
        return tensor;
    }

    /** Copies rows of token ids of one length into an int64 tensor (rows, tokens). */
    @NotNull
    public static Tensor ofRows(@NotNull long[]... rows) {
        int width = rows.length == 0 ? 0 : rows[0].length;
        Tensor tensor = zeros(DType.INT64, rows.length, width);
        for (int row = 0; row < rows.length; row++) {
            if (rows[row].length != width) {
                throw EdgeException.invalid(
                        "rows: found " + rows[row].length + " ids in row " + row + ", expected "
                                + width + "; run rows of different lengths apart");
            }
            for (int place = 0; place < width; place++) {
                tensor.data.putLong(8 * (row * width + place), rows[row][place]);
            }
        }
        return tensor;
    }

    /** Returns zeros; a shape with a 0 in it has no values. */
    static Tensor zeros(DType dtype, long... shape) {
        long size = bytes(dtype, shape);
        if (size > Integer.MAX_VALUE - 8) {
            throw EdgeException.invalid(
                    "tensor: found " + size + " bytes, expected at most " + (Integer.MAX_VALUE - 8));
        }
        return new Tensor(dtype, shape.clone(), Memory.direct((int) size));
    }

    /** Returns ones of an integer type. */
    static Tensor ones(DType dtype, long... shape) {
        Tensor tensor = zeros(dtype, shape);
        for (long place = 0; place < tensor.getCount(); place++) {
            tensor.putLong(place, 1);
        }
        return tensor;
    }

    private static Tensor allocate(DType dtype, long count, long[] shape) {
        if (bytes(dtype, shape) != count * dtype.getWidth()) {
            throw EdgeException.invalid(
                    "tensor: found " + count + " values, expected the shape " + Arrays.toString(shape));
        }
        return zeros(dtype, shape);
    }

    private static long bytes(DType dtype, long[] shape) {
        long count = Sizes.product(shape);
        long size = count < 0 ? -1 : Sizes.multiply(count, dtype.getWidth());
        if (size < 0) {
            throw EdgeException.invalid(
                    "tensor: found the shape " + Arrays.toString(shape) + ", expected sizes of 0 or "
                            + "more whose product fits into memory");
        }
        return size;
    }

    /** Returns the type of the values. */
    @NotNull
    public DType getDtype() {
        return dtype;
    }

    /** Returns the sizes of the axes. */
    @NotNull
    public long[] getShape() {
        return shape.clone();
    }

    /** Returns how many values there are. */
    public long getCount() {
        return data.limit() / dtype.getWidth();
    }

    /** Returns the values' bytes, read-only, in the machine's byte order. */
    @NotNull
    public ByteBuffer getData() {
        return data.asReadOnlyBuffer().order(ByteOrder.nativeOrder());
    }

    /**
     * Copies float32 values out.
     *
     * @throws EdgeException INVALID_ARGUMENT: the type is another.
     */
    @NotNull
    public float[] toFloats() {
        expect(DType.FLOAT32);
        float[] values = new float[(int) getCount()];
        buffer().asFloatBuffer().get(values);
        return values;
    }

    /**
     * Copies integers of any width out.
     *
     * @throws EdgeException INVALID_ARGUMENT: the type is a float's.
     */
    @NotNull
    public long[] toLongs() {
        if (!dtype.isInteger()) {
            throw EdgeException.invalid("tensor: found " + dtype + ", expected integers");
        }
        long[] values = new long[(int) getCount()];
        for (int place = 0; place < values.length; place++) {
            values[place] = longAt(place);
        }
        return values;
    }

    /** Copies int32 values out. */
    @NotNull
    public int[] toInts() {
        expect(DType.INT32);
        int[] values = new int[(int) getCount()];
        buffer().asIntBuffer().get(values);
        return values;
    }

    /** Returns the memory itself, in the machine's byte order, from 0 to its limit. */
    ByteBuffer buffer() {
        return data.duplicate().order(ByteOrder.nativeOrder());
    }

    long[] shape() {
        return shape;
    }

    long longAt(long place) {
        int at = (int) place * dtype.getWidth();
        switch (dtype) {
            case INT64:
                return data.getLong(at);
            case INT32:
                return data.getInt(at);
            case INT16:
                return data.getShort(at);
            case UINT8:
                return data.get(at) & 0xff;
            default:
                return data.get(at);
        }
    }

    void putLong(long place, long value) {
        int at = (int) place * dtype.getWidth();
        switch (dtype) {
            case INT64:
                data.putLong(at, value);
                break;
            case INT32:
                data.putInt(at, (int) value);
                break;
            case INT16:
                data.putShort(at, (short) value);
                break;
            default:
                data.put(at, (byte) value);
        }
    }

    /** Returns the same values with another shape of the same size. */
    Tensor reshaped(long... sizes) {
        return of(dtype, buffer(), sizes);
    }

    private void expect(DType wanted) {
        if (dtype != wanted) {
            throw EdgeException.invalid("tensor: found " + dtype + ", expected " + wanted);
        }
    }

    /** Returns type and shape, such as {@code int64[1, 128]}. */
    @Override
    @NotNull
    public String toString() {
        return dtype + Arrays.toString(shape);
    }
}
