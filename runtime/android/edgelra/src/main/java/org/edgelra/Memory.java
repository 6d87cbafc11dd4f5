package org.edgelra;

import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/** Memory outside of the heap, where onnxruntime can read it, and what the process has of it. */
final class Memory {
    private Memory() {}

    /** Returns zeroed memory in the machine's byte order. */
    static ByteBuffer direct(int bytes) {
        try {
            // At least one byte: JNI has no address for a buffer of none on every machine.
            ByteBuffer buffer = ByteBuffer.allocateDirect(Math.max(1, bytes));
            buffer.limit(bytes);
            return buffer.slice().order(ByteOrder.nativeOrder());
        } catch (OutOfMemoryError error) {
            throw new EdgeException(
                    EdgeException.Code.OUT_OF_MEMORY,
                    "memory: found less than the " + bytes + " bytes that are needed; close what is "
                            + "not in use",
                    error);
        }
    }

    /** Returns the most MiB that the process has had in memory; null where that cannot be read. */
    static Double peakRssMib() {
        return statusMib("VmHWM:");
    }

    /** Returns the MiB that the process has in memory; null where that cannot be read. */
    static Double residentMib() {
        return statusMib("VmRSS:");
    }

    private static Double statusMib(String key) {
        try (BufferedReader lines =
                new BufferedReader(
                        new InputStreamReader(
                                new FileInputStream("/proc/self/status"),
                                StandardCharsets.UTF_8))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                if (line.startsWith(key)) {
                    String[] words = line.substring(key.length()).trim().split(" ");
                    return Long.parseLong(words[0]) / 1024.0;
                }
            }
        } catch (IOException | NumberFormatException error) {
            return null; // another system, or a sandbox
        }
        return null;
    }
}
