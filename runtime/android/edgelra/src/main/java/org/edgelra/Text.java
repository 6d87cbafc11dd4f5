package org.edgelra;

import java.util.Iterator;

/** Text of lists; {@code String.join} came to Android with API 26. */
final class Text {
    private Text() {}

    static String join(String between, Iterable<String> parts) {
        StringBuilder text = new StringBuilder();
        for (Iterator<String> rest = parts.iterator(); rest.hasNext(); ) {
            text.append(rest.next());
            if (rest.hasNext()) {
                text.append(between);
            }
        }
        return text.toString();
    }
}
