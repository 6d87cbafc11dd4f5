package org.edgelra;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Reads safetensors: a length, a JSON header, and the tensors' bytes without gaps. */
final class Safetensors {
    private static final long MAX_HEADER = 16L << 20;
    private static final String METADATA = "__metadata__";

    private Safetensors() {}

    /**
     * Returns the tensors of a file by name.
     *
     * @param where what errors call the file.
     * @param file its bytes, which are copied.
     * @throws EdgeException DAMAGED.
     */
    static Map<String, Tensor> read(String where, ByteBuffer file) {
        ByteBuffer bytes = file.duplicate().order(ByteOrder.LITTLE_ENDIAN);
        if (bytes.remaining() < 8) {
            throw EdgeException.damaged(
                    where + ": found " + bytes.remaining() + " bytes, expected safetensors");
        }
        long length = bytes.getLong();
        if (length < 0 || length > MAX_HEADER || length > bytes.remaining()) {
            throw EdgeException.damaged(
                    where + ": found a header of " + length
                            + " bytes, expected one inside the file and of at most " + MAX_HEADER);
        }
        ByteBuffer header = bytes.slice();
        header.limit((int) length);
        bytes.position(bytes.position() + (int) length);
        return tensors(where, Json.object(where, header), bytes.slice());
    }

    private static Map<String, Tensor> tensors(String where, Fields header, ByteBuffer data) {
        Map<String, Tensor> found = new LinkedHashMap<>();
        List<long[]> ranges = new ArrayList<>();
        for (String name : header.names()) {
            if (name.equals(METADATA)) {
                continue;
            }
            Fields entry = header.object(name);
            DType dtype = DType.stored(entry.where(), entry.text("dtype"));
            long[] shape = entry.wholes("shape");
            long[] range = range(entry, data.limit());
            checkSize(entry.where(), dtype, shape, range);
            ranges.add(range);
            found.put(name, tensor(dtype, shape, data, range));
        }
        checkCover(where, ranges, data.limit());
        return Collections.unmodifiableMap(found);
    }

    private static long[] range(Fields entry, long limit) {
        long[] range = entry.wholes("data_offsets");
        if (range.length != 2 || range[0] < 0 || range[1] < range[0] || range[1] > limit) {
            throw EdgeException.damaged(
                    entry.where() + ": found offsets outside of the file's " + limit
                            + " bytes, expected a beginning and an end inside");
        }
        return range;
    }

    private static void checkSize(String where, DType dtype, long[] shape, long[] range) {
        long count = Sizes.product(shape);
        long size = count < 0 ? -1 : Sizes.multiply(count, dtype.getWidth());
        if (size != range[1] - range[0]) {
            throw EdgeException.damaged(
                    where + ": found " + (range[1] - range[0]) + " bytes, expected those of its "
                            + "type and shape");
        }
    }

    private static Tensor tensor(DType dtype, long[] shape, ByteBuffer data, long[] range) {
        ByteBuffer part = data.duplicate();
        part.position((int) range[0]);
        part.limit((int) range[1]);
        // A tensor may begin anywhere; kernels read from aligned addresses, and on Android every
        // processor has the file's byte order.
        ByteBuffer own = Memory.direct(part.remaining());
        own.put(part);
        own.flip();
        return Tensor.of(dtype, own, shape);
    }

    /** Empty tensors have a place as well: none may be inside of another. */
    private static void checkCover(String where, List<long[]> ranges, long limit) {
        Collections.sort(
                ranges,
                (one, other) ->
                        one[0] != other[0]
                                ? Long.compare(one[0], other[0])
                                : Long.compare(one[1], other[1]));
        long end = 0;
        for (long[] range : ranges) {
            if (range[0] != end) {
                throw EdgeException.damaged(
                        where + ": found tensors that overlap or leave gaps at byte " + end);
            }
            end = range[1];
        }
        if (end != limit) {
            throw EdgeException.damaged(
                    where + ": found " + (limit - end) + " bytes behind the last tensor");
        }
    }
}
