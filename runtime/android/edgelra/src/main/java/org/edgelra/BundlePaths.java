package org.edgelra;

import java.io.File;
import java.io.IOException;

/** Names of files in a manifest: relative, with '/', and inside the bundle. */
final class BundlePaths {
    private BundlePaths() {}

    /**
     * Refuses a name that could reach outside of the bundle on any system.
     *
     * @throws EdgeException DAMAGED.
     */
    static void check(String where, String name) {
        if (!isInside(name)) {
            throw EdgeException.damaged(
                    where + ": found \"" + name + "\", expected files inside the bundle");
        }
    }

    /**
     * Refuses an argument that could reach outside of where it is looked for.
     *
     * @throws EdgeException INVALID_ARGUMENT.
     */
    static void checkArgument(String where, String name) {
        if (!isInside(name)) {
            throw EdgeException.invalid(
                    where + ": found \"" + name + "\", expected a relative path with '/'");
        }
    }

    private static boolean isInside(String name) {
        boolean inside = !name.isEmpty()
                && !name.startsWith("/")
                && name.indexOf('\\') < 0
                && name.indexOf(':') < 0 // a drive, or a stream of a file
                && name.indexOf('\0') < 0;
        for (String part : name.split("/", -1)) {
            inside &= !part.isEmpty() && !part.equals(".") && !part.equals("..");
        }
        return inside;
    }

    /**
     * Returns a checked name's file, where no symbolic link leads out of the folder.
     *
     * @throws EdgeException DAMAGED: a link leaves the bundle.
     */
    static File resolve(File folder, String name) {
        File file = new File(folder, name);
        try {
            String root = folder.getCanonicalPath();
            if (!file.getCanonicalPath().startsWith(root + File.separator)) {
                throw EdgeException.damaged(
                        file + ": found a link out of the bundle, expected a file inside");
            }
        } catch (IOException error) {
            throw new EdgeException(
                    EdgeException.Code.NOT_FOUND,
                    file + ": cannot be read: " + EdgeException.firstLine(error),
                    error);
        }
        return file;
    }
}
