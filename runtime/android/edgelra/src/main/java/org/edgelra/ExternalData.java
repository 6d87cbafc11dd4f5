package org.edgelra;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.Set;

/**
 * Finds the files that a {@code model.onnx} reads its weights from.
 *
 * <p>onnxruntime opens whatever path stands there, so that each must be a file of the manifest
 * before it sees the model. A walk over the protobuf: the messages that can hold a tensor are
 * entered, all else is skipped. Protobuf takes the last of a repeated key: here each one counts.
 */
final class ExternalData {
    /** What onnxruntime takes for an address in memory, even where there is such a file. */
    private static final String MEMORY = "*/_ORT_MEM_ADDR_/*";

    private static final int MAX_DEPTH = 64;
    private static final int VARINT = 0;
    private static final int FIXED64 = 1;
    private static final int BYTES = 2;
    private static final int FIXED32 = 5;

    /** The messages on the way from a model to a tensor, each with what its fields hold. */
    private enum Message {
        MODEL,
        GRAPH,
        FUNCTION,
        NODE,
        ATTRIBUTE,
        SPARSE_TENSOR,
        TENSOR,
        ENTRY;

        /** Returns the message in a field; null for what cannot hold a tensor. */
        Message field(int number) {
            switch (this) {
                case MODEL:
                    return number == 7 ? GRAPH : number == 25 ? FUNCTION : null;
                case GRAPH:
                    return number == 1 ? NODE
                            : number == 5 ? TENSOR
                            : number == 15 ? SPARSE_TENSOR : null;
                case FUNCTION:
                    return number == 7 ? NODE : number == 11 ? ATTRIBUTE : null;
                case NODE:
                    return number == 5 ? ATTRIBUTE : null;
                case ATTRIBUTE:
                    return attribute(number);
                case SPARSE_TENSOR:
                    return number == 1 || number == 2 ? TENSOR : null;
                case TENSOR:
                    return number == 13 ? ENTRY : null;
                default:
                    return null;
            }
        }

        private static Message attribute(int number) {
            switch (number) {
                case 5:
                case 10:
                    return TENSOR;
                case 6:
                case 11:
                    return GRAPH;
                case 22:
                case 23:
                    return SPARSE_TENSOR;
                default:
                    return null;
            }
        }
    }

    private final String where;
    private final Set<String> locations = new LinkedHashSet<>();

    private ExternalData(String where) {
        this.where = where;
    }

    /**
     * Returns the locations in a model.
     *
     * @throws EdgeException DAMAGED: it is no protobuf, or nested too deeply.
     */
    static Set<String> locations(String where, ByteBuffer model) {
        ExternalData found = new ExternalData(where);
        found.walk(model.duplicate(), Message.MODEL, 0);
        return found.locations;
    }

    /**
     * Returns the locations in a model that reads none but the files listed.
     *
     * @throws EdgeException DAMAGED.
     */
    static Set<String> check(String where, ByteBuffer model, Collection<String> files) {
        Set<String> found = locations(where, model);
        for (String location : found) {
            if (!files.contains(location) || location.equals(MEMORY)) {
                throw EdgeException.damaged(
                        where + ": found weights in \"" + location
                                + "\", expected files that the manifest lists; export again");
            }
        }
        return found;
    }

    private void walk(ByteBuffer bytes, Message message, int depth) {
        if (depth > MAX_DEPTH) {
            throw malformed("messages deeper than " + MAX_DEPTH);
        }
        boolean isLocation = false;
        Set<String> values = new LinkedHashSet<>();
        while (bytes.hasRemaining()) {
            long tag = varint(bytes);
            long number = tag >>> 3;
            if (number < 1 || number > 0x1fffffff) {
                throw malformed("the field number " + number);
            }
            ByteBuffer value = skip(bytes, (int) (tag & 7));
            if (value == null) {
                continue;
            }
            if (message == Message.ENTRY) {
                isLocation |= number == 1 && text(value).equals("location");
                if (number == 2) {
                    values.add(text(value));
                }
            } else {
                Message inner = message.field((int) number);
                if (inner != null) {
                    walk(value, inner, depth + 1);
                }
            }
        }
        if (isLocation) {
            if (values.isEmpty()) {
                values.add(""); // which onnxruntime would take for the folder
            }
            locations.addAll(values);
        }
    }

    /** Moves behind a field; returns its bytes where it has a length, else null. */
    private ByteBuffer skip(ByteBuffer bytes, int wire) {
        switch (wire) {
            case VARINT:
                varint(bytes);
                return null;
            case FIXED64:
                take(bytes, 8);
                return null;
            case FIXED32:
                take(bytes, 4);
                return null;
            case BYTES:
                return take(bytes, varint(bytes));
            default:
                throw malformed("the wire type " + wire); // groups are long gone from protobuf
        }
    }

    private ByteBuffer take(ByteBuffer bytes, long size) {
        if (size < 0 || size > bytes.remaining()) {
            throw malformed("a field of " + size + " bytes");
        }
        ByteBuffer part = bytes.slice();
        part.limit((int) size);
        bytes.position(bytes.position() + (int) size);
        return part;
    }

    private long varint(ByteBuffer bytes) {
        long value = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            if (!bytes.hasRemaining()) {
                throw malformed("its end in a number");
            }
            byte next = bytes.get();
            value |= (long) (next & 0x7f) << shift;
            if (next >= 0) {
                return value;
            }
        }
        throw malformed("a number of more than ten bytes");
    }

    private static String text(ByteBuffer value) {
        byte[] data = new byte[value.remaining()];
        value.get(data);
        return new String(data, StandardCharsets.UTF_8);
    }

    private EdgeException malformed(String found) {
        return EdgeException.damaged(
                where + ": found " + found + ", expected an ONNX model; export again");
    }
}
