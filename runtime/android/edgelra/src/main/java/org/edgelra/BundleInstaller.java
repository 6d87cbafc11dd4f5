package org.edgelra;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileLock;
import java.security.MessageDigest;
import java.util.Map;
import org.jetbrains.annotations.NotNull;

/**
 * Copies a bundle from where there are no paths, such as an app's assets, to a folder: onnxruntime
 * maps its weights from a file. Once: a folder that holds the same bundle is left alone.
 */
public final class BundleInstaller {
    /** Where a bundle's files come from. */
    public interface Source {
        /**
         * Opens a file.
         *
         * @param name its path inside the bundle, with '/'.
         */
        @NotNull
        InputStream open(@NotNull String name) throws IOException;
    }

    private static final int MAX_MANIFEST = 16 << 20;
    private static final Object LOCK = new Object(); // a FileLock is a process's, not a thread's

    private BundleInstaller() {}

    /**
     * Makes {@code target} the source's bundle. Files are hashed while they are copied, into a
     * sibling that takes the target's place when it is whole; killed halfway, the next call begins
     * again. Safe from many threads and processes.
     *
     * @return the target.
     * @throws EdgeException NOT_FOUND: the source has no bundle; DAMAGED: a file is not what the
     *     manifest says; RUNTIME: the disk refuses.
     */
    @NotNull
    public static File install(@NotNull Source source, @NotNull File target) {
        ByteBuffer bytes = manifest(source, target.getName());
        Manifest manifest = ManifestReader.parse(target.getName(), bytes);
        File folder = target.getAbsoluteFile().getParentFile();
        if (!folder.isDirectory() && !folder.mkdirs() && !folder.isDirectory()) {
            throw disk(target, new IOException("its folder cannot be made"));
        }
        synchronized (LOCK) {
            File lockFile = new File(folder, "." + target.getName() + ".lock");
            try (RandomAccessFile file = new RandomAccessFile(lockFile, "rw");
                    FileLock lock = file.getChannel().lock()) {
                assert lock.isValid();
                if (!isInstalled(target, manifest)) {
                    replace(source, target, manifest, bytes);
                }
            } catch (IOException error) {
                throw disk(target, error);
            }
        }
        return target;
    }

    private static ByteBuffer manifest(Source source, String name) {
        try (InputStream stream = source.open(ManifestReader.NAME)) {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            byte[] block = new byte[1 << 14];
            for (int size = stream.read(block); size >= 0; size = stream.read(block)) {
                bytes.write(block, 0, size);
                if (bytes.size() > MAX_MANIFEST) {
                    throw EdgeException.damaged(
                            name + ": found a manifest of more than " + MAX_MANIFEST
                                    + " bytes, expected a bundle's");
                }
            }
            return ByteBuffer.wrap(bytes.toByteArray());
        } catch (IOException error) {
            throw new EdgeException(
                    EdgeException.Code.NOT_FOUND,
                    name + ": found no " + ManifestReader.NAME + ", expected a bundle: "
                            + EdgeException.firstLine(error),
                    error);
        }
    }

    /** Tells whether the target is this bundle; what its files hold is checked when it is loaded. */
    private static boolean isInstalled(File target, Manifest manifest) {
        try {
            if (!ManifestReader.read(target).seal.equals(manifest.seal)) {
                return false;
            }
        } catch (EdgeException error) {
            return false; // nothing there, or something else
        }
        for (Map.Entry<String, Manifest.FileEntry> entry : manifest.files.entrySet()) {
            if (new File(target, entry.getKey()).length() != entry.getValue().size) {
                return false;
            }
        }
        return true;
    }

    private static void replace(Source source, File target, Manifest manifest, ByteBuffer bytes)
            throws IOException {
        File fresh = sibling(target, "new");
        File aside = sibling(target, "old");
        delete(fresh);
        delete(aside);
        try {
            for (Map.Entry<String, Manifest.FileEntry> entry : manifest.files.entrySet()) {
                copy(source, entry.getKey(), entry.getValue(), new File(fresh, entry.getKey()));
            }
            write(new File(fresh, ManifestReader.NAME), bytes);
            if (target.exists()) {
                rename(target, aside);
            }
            rename(fresh, target);
        } finally {
            delete(fresh);
            delete(aside);
        }
    }

    private static void copy(Source source, String name, Manifest.FileEntry entry, File target)
            throws IOException {
        makeFolder(target.getParentFile());
        MessageDigest digest = Hashes.sha256();
        byte[] block = new byte[1 << 16];
        try (InputStream from = source.open(name);
                FileOutputStream to = new FileOutputStream(target)) {
            long left = entry.size;
            int size = from.read(block);
            for (; size >= 0 && size <= left; size = from.read(block)) {
                digest.update(block, 0, size);
                to.write(block, 0, size);
                left -= size;
            }
            if (size >= 0 || left > 0 || !Hashes.hex(digest).equals(entry.sha256)) {
                throw EdgeException.damaged(
                        name + ": is damaged, found other bytes than were exported; export again");
            }
            to.getFD().sync(); // before the rename says that it is there
        }
    }

    private static void write(File target, ByteBuffer bytes) throws IOException {
        try (FileOutputStream to = new FileOutputStream(target)) {
            ByteBuffer rest = bytes.duplicate();
            while (rest.hasRemaining()) {
                to.getChannel().write(rest);
            }
            to.getFD().sync();
        }
    }

    private static File sibling(File target, String kind) {
        return new File(
                target.getAbsoluteFile().getParentFile(), "." + target.getName() + "." + kind);
    }

    private static void makeFolder(File folder) throws IOException {
        if (!folder.isDirectory() && !folder.mkdirs()) {
            throw new IOException(folder + " cannot be made");
        }
    }

    private static void rename(File from, File to) throws IOException {
        if (!from.renameTo(to)) {
            throw new IOException(from + " cannot be renamed to " + to);
        }
    }

    /** Deletes a file or a folder, as far as the system lets it; a later install tries again. */
    private static void delete(File file) {
        File[] inside = file.listFiles();
        if (inside != null) {
            for (File each : inside) {
                delete(each);
            }
        }
        file.delete();
    }

    private static EdgeException disk(File target, IOException error) {
        return new EdgeException(
                EdgeException.Code.RUNTIME,
                target + " cannot be written: " + EdgeException.firstLine(error)
                        + "; make room, or choose another folder",
                error);
    }
}
