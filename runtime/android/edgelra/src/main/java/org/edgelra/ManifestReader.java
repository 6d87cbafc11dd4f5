package org.edgelra;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;

/** Reads a bundle's manifest and refuses one that is damaged, newer or reaches outside. */
final class ManifestReader {
    static final String NAME = "manifest.json";
    static final long FORMAT_VERSION = 1;
    private static final long MAX_BYTES = 16L << 20;

    /** The manifest begins with its own digest: of the file, with zeros in its 64 places. */
    private static final byte[] SEAL = "{\n \"sha256\": \"".getBytes(StandardCharsets.US_ASCII);

    private static final int DIGEST = 64;

    private ManifestReader() {}

    /**
     * Reads the manifest of a bundle's folder.
     *
     * @throws EdgeException NOT_FOUND, DAMAGED or UNSUPPORTED.
     */
    static Manifest read(File folder) {
        File file = new File(folder, NAME);
        if (!file.isFile()) {
            throw new EdgeException(
                    EdgeException.Code.NOT_FOUND,
                    folder + ": found no " + NAME + ", expected a bundle; export one");
        }
        try {
            return parse(file.getPath(), FileBytes.read(file, MAX_BYTES));
        } catch (IOException error) {
            throw new EdgeException(
                    EdgeException.Code.NOT_FOUND,
                    file + ": cannot be read: " + EdgeException.firstLine(error),
                    error);
        }
    }

    /** Reads the bytes of a manifest; {@code where} is what errors call it. */
    static Manifest parse(String where, ByteBuffer bytes) {
        Fields fields = Json.object(where, bytes);
        if (!fields.has("format_version")
                || !fields.has("base_fingerprint")
                || !fields.has("files")) {
            throw EdgeException.damaged(
                    where + ": found another kind of file, expected a bundle's manifest");
        }
        Object version = fields.raw("format_version");
        if (!Long.valueOf(FORMAT_VERSION).equals(version)) {
            throw new EdgeException(
                    EdgeException.Code.UNSUPPORTED,
                    where + ": found bundle format " + version + ", expected " + FORMAT_VERSION
                            + "; use the edge-lra that wrote it, or export again");
        }
        if (!isSealed(bytes)) {
            throw EdgeException.damaged(
                    where + ": is damaged, found other bytes than were exported; export again");
        }
        Manifest manifest = new Manifest(fields);
        checkPaths(where, manifest);
        return manifest;
    }

    private static boolean isSealed(ByteBuffer bytes) {
        byte[] data = new byte[bytes.remaining()];
        bytes.duplicate().get(data);
        int end = SEAL.length + DIGEST;
        if (data.length < end) {
            return false;
        }
        for (int place = 0; place < SEAL.length; place++) {
            if (data[place] != SEAL[place]) {
                return false;
            }
        }
        String found = new String(data, SEAL.length, DIGEST, StandardCharsets.US_ASCII);
        MessageDigest digest = Hashes.sha256();
        digest.update(SEAL);
        for (int place = 0; place < DIGEST; place++) {
            digest.update((byte) '0');
        }
        digest.update(data, end, data.length - end);
        return found.equals(Hashes.hex(digest));
    }

    private static void checkPaths(String where, Manifest manifest) {
        for (String name : manifest.files.keySet()) {
            BundlePaths.check(where, name);
        }
        for (Manifest.AdapterEntry adapter : manifest.adapters.values()) {
            BundlePaths.check(where, adapter.file);
        }
        if (manifest.tokenizerFile != null) {
            BundlePaths.check(where, manifest.tokenizerFile);
        }
    }
}
