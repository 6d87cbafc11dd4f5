package org.edgelra;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** sha256 in hex. */
final class Hashes {
    private static final String DIGITS = "0123456789abcdef";

    private Hashes() {}

    static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new AssertionError(error); // every Java and every Android has it
        }
    }

    static String hex(MessageDigest digest) {
        StringBuilder text = new StringBuilder(64);
        for (byte value : digest.digest()) {
            text.append(DIGITS.charAt((value >> 4) & 15)).append(DIGITS.charAt(value & 15));
        }
        return text.toString();
    }

    static String of(ByteBuffer bytes) {
        MessageDigest digest = sha256();
        digest.update(bytes.duplicate());
        return hex(digest);
    }

    static String of(String text) {
        return of(ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8)));
    }

    static String of(File file) throws IOException {
        MessageDigest digest = sha256();
        byte[] block = new byte[1 << 16];
        try (InputStream stream = new FileInputStream(file)) {
            for (int size = stream.read(block); size >= 0; size = stream.read(block)) {
                digest.update(block, 0, size);
            }
        }
        return hex(digest);
    }
}
