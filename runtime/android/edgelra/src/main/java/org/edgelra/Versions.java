package org.edgelra;

import java.util.ArrayList;
import java.util.List;

/** Compares the versions of onnxruntime. */
final class Versions {
    private static final int PARTS = 3;

    private Versions() {}

    /**
     * Refuses a version older than the least.
     *
     * @throws EdgeException UNSUPPORTED.
     */
    static void check(String where, String found, String minimum) {
        if (minimum != null && isOlder(found, minimum)) {
            throw new EdgeException(
                    EdgeException.Code.UNSUPPORTED,
                    where + ": found onnxruntime " + found + ", expected " + minimum
                            + " or newer; raise the app's dependency");
        }
    }

    static boolean isOlder(String found, String minimum) {
        List<Long> left = numbers(found);
        List<Long> right = numbers(minimum);
        for (int place = 0; place < PARTS; place++) {
            long a = place < left.size() ? left.get(place) : 0;
            long b = place < right.size() ? right.get(place) : 0;
            if (a != b) {
                return a < b;
            }
        }
        return false;
    }

    private static List<Long> numbers(String text) {
        List<Long> found = new ArrayList<>();
        for (String part : text.split("[^0-9]+")) {
            if (!part.isEmpty() && part.length() < 10 && found.size() < PARTS) {
                found.add(Long.parseLong(part));
            }
        }
        return found;
    }
}
