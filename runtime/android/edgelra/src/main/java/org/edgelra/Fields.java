package org.edgelra;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** A JSON object whose entries are read with a type; a wrong one is told with its place. */
final class Fields {
    private final String where;
    private final Map<String, Object> entries;

    private Fields(String where, Map<String, Object> entries) {
        this.where = where;
        this.entries = entries;
    }

    static Fields of(String where, Object value) {
        if (!(value instanceof Map)) {
            throw wrong(where, value, "an object");
        }
        @SuppressWarnings("unchecked") // Json makes maps with string keys alone
        Map<String, Object> entries = (Map<String, Object>) value;
        return new Fields(where, entries);
    }

    String where() {
        return where;
    }

    Set<String> names() {
        return Collections.unmodifiableSet(entries.keySet());
    }

    boolean has(String name) {
        return entries.get(name) != null;
    }

    Object raw(String name) {
        return entries.get(name);
    }

    Fields object(String name) {
        return of(place(name), entries.get(name));
    }

    /** Returns an object, or one without entries where it is null or absent. */
    Fields objectOrEmpty(String name) {
        return has(name) ? object(name) : new Fields(place(name), Collections.emptyMap());
    }

    String text(String name) {
        return text(place(name), entries.get(name));
    }

    String textOrNull(String name) {
        return has(name) ? text(name) : null;
    }

    /** Returns one value of a list as text; null where it is null. */
    String textOrNull(String list, Object value) {
        return value == null ? null : text(place(list), value);
    }

    /** Returns a text, a number or a truth value as text, 1 and 0 for the latter. */
    String scalar(String name) {
        Object value = entries.get(name);
        if (value instanceof Boolean) {
            return (Boolean) value ? "1" : "0";
        }
        if (value instanceof Number) {
            return String.valueOf(value);
        }
        return text(name);
    }

    long whole(String name, long least, long most) {
        Object value = entries.get(name);
        boolean fits = value instanceof Long && (Long) value >= least && (Long) value <= most;
        if (!fits) {
            throw wrong(place(name), value, "a whole number of " + least + " to " + most);
        }
        return (Long) value;
    }

    int count(String name) {
        return (int) whole(name, 1, Integer.MAX_VALUE);
    }

    double number(String name, double otherwise) {
        Object value = entries.get(name);
        if (value == null) {
            return otherwise;
        }
        if (!(value instanceof Number)) {
            throw wrong(place(name), value, "a number");
        }
        return ((Number) value).doubleValue();
    }

    List<Object> list(String name) {
        Object value = entries.get(name);
        if (!(value instanceof List)) {
            throw wrong(place(name), value, "a list");
        }
        return new ArrayList<Object>((List<?>) value);
    }

    List<Object> listOrEmpty(String name) {
        return has(name) ? list(name) : Collections.emptyList();
    }

    List<Fields> objects(String name) {
        List<Fields> found = new ArrayList<>();
        for (Object value : listOrEmpty(name)) {
            found.add(of(place(name), value));
        }
        return found;
    }

    List<String> texts(String name) {
        List<String> found = new ArrayList<>();
        for (Object value : list(name)) {
            found.add(text(place(name), value));
        }
        return found;
    }

    List<String> textsOrNull(String name) {
        return has(name) ? texts(name) : null;
    }

    long[] wholes(String name) {
        List<Object> values = list(name);
        long[] found = new long[values.size()];
        for (int place = 0; place < found.length; place++) {
            Object value = values.get(place);
            if (!(value instanceof Long)) {
                throw wrong(place(name), value, "whole numbers");
            }
            found[place] = (Long) value;
        }
        return found;
    }

    private String place(String name) {
        return where + ": " + name;
    }

    private static String text(String where, Object value) {
        if (!(value instanceof String)) {
            throw wrong(where, value, "a string");
        }
        return (String) value;
    }

    private static EdgeException wrong(String where, Object value, String expected) {
        String found;
        if (value == null) {
            found = "nothing";
        } else if (value instanceof Map) {
            found = "an object";
        } else if (value instanceof List) {
            found = "a list";
        } else {
            found = String.valueOf(value);
        }
        return EdgeException.damaged(where + ": found " + found + ", expected " + expected);
    }
}
