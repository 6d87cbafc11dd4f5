package org.edgelra;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;

/** A whole file in memory outside of the heap. */
final class FileBytes {
    private FileBytes() {}

    /**
     * Reads a file.
     *
     * @throws EdgeException DAMAGED: it is longer than {@code most}.
     * @throws IOException it cannot be read.
     */
    static ByteBuffer read(File file, long most) throws IOException {
        try (FileInputStream stream = new FileInputStream(file)) {
            FileChannel channel = stream.getChannel();
            long size = channel.size();
            if (size > most) {
                throw EdgeException.damaged(
                        file + ": found " + size + " bytes, expected at most " + most);
            }
            ByteBuffer bytes = Memory.direct((int) size);
            while (bytes.hasRemaining() && channel.read(bytes) >= 0) {
                // a channel may give less than was asked for
            }
            if (bytes.hasRemaining()) {
                throw new IOException("it became shorter while it was read");
            }
            bytes.flip();
            return bytes.order(ByteOrder.LITTLE_ENDIAN);
        }
    }
}
