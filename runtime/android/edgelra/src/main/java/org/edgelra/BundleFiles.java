package org.edgelra;

import java.io.File;
import java.io.IOException;
import java.util.Map;

/** Compares a bundle's files with its manifest, and remembers that it did. */
final class BundleFiles {
    private final File folder;
    private final Manifest manifest;
    private final File stamps;

    /** Takes the bundle, its manifest, and the folder where checks are remembered. */
    BundleFiles(File folder, Manifest manifest, File stamps) {
        this.folder = folder;
        this.manifest = manifest;
        this.stamps = stamps;
    }

    /**
     * Checks sizes, and hashes where the files were not checked as they are.
     *
     * @throws EdgeException NOT_FOUND or DAMAGED.
     */
    void check(RunnerOptions.Verify verify) {
        if (verify == RunnerOptions.Verify.NEVER) {
            return;
        }
        for (Map.Entry<String, Manifest.FileEntry> entry : manifest.files.entrySet()) {
            checkSize(entry.getKey(), entry.getValue());
        }
        File stamp = new File(stamps, identity());
        if (verify == RunnerOptions.Verify.ONCE && stamp.isFile()) {
            return;
        }
        for (Map.Entry<String, Manifest.FileEntry> entry : manifest.files.entrySet()) {
            checkHash(entry.getKey(), entry.getValue());
        }
        remember(stamp);
    }

    private void checkSize(String name, Manifest.FileEntry entry) {
        File file = BundlePaths.resolve(folder, name);
        if (!file.isFile()) {
            throw new EdgeException(
                    EdgeException.Code.NOT_FOUND,
                    file + ": found it missing or cut, expected " + entry.size + " bytes");
        }
        if (file.length() != entry.size) {
            throw EdgeException.damaged(
                    file + ": found it missing or cut, expected " + entry.size + " bytes");
        }
    }

    private void checkHash(String name, Manifest.FileEntry entry) {
        File file = BundlePaths.resolve(folder, name);
        try {
            if (!Hashes.of(file).equals(entry.sha256)) {
                throw EdgeException.damaged(
                        file + ": is damaged, found other bytes than were exported; export again");
            }
        } catch (IOException error) {
            throw new EdgeException(
                    EdgeException.Code.NOT_FOUND,
                    file + ": cannot be read: " + EdgeException.firstLine(error),
                    error);
        }
    }

    /** Returns a name for the files as they are: paths, sizes, times and recorded hashes. */
    private String identity() {
        StringBuilder text = new StringBuilder(folder.getAbsolutePath());
        for (Map.Entry<String, Manifest.FileEntry> entry : manifest.files.entrySet()) {
            File file = new File(folder, entry.getKey());
            text.append('\n').append(entry.getKey());
            text.append(' ').append(entry.getValue().sha256);
            text.append(' ').append(file.length()).append(' ').append(file.lastModified());
        }
        return Hashes.of(text.toString());
    }

    private static void remember(File stamp) {
        File folder = stamp.getParentFile();
        if (!folder.isDirectory() && !folder.mkdirs()) {
            return; // a folder that cannot be written costs the next load a full check
        }
        try {
            stamp.createNewFile();
        } catch (IOException error) {
            return; // likewise
        }
    }
}
