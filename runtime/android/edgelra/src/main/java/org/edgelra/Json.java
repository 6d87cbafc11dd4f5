package org.edgelra;

import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.IOException;
import java.io.StringReader;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Strict JSON: UTF-8, no duplicate names, nothing behind the document, at most 64 levels.
 *
 * <p>Read through Gson's streaming reader, not Android's {@code org.json}: that one takes comments,
 * bare words and trailing bytes, keeps the last of duplicate names, and recurses without a limit.
 * Gson's skips a byte order mark and takes control characters in strings: both are looked for first.
 */
final class Json {
    /** Deeper documents are refused before they can exhaust the stack. */
    static final int MAX_DEPTH = 64;

    private static final char BYTE_ORDER_MARK = '\ufeff';

    private final String where;
    private final String text;
    private final JsonReader reader;

    private Json(String where, String text) {
        this.where = where;
        this.text = text;
        this.reader = new JsonReader(new StringReader(text));
    }

    /** Returns a document as maps, lists, strings, {@code Long}, {@code Double}, booleans, null. */
    static Object parse(String where, ByteBuffer bytes) {
        Json json = new Json(where, decode(where, bytes));
        json.checkCharacters();
        try {
            Object value = json.value(0);
            if (json.reader.peek() != JsonToken.END_DOCUMENT) {
                throw json.corrupt("more behind its end");
            }
            return value;
        } catch (IOException | IllegalStateException | NumberFormatException error) {
            throw json.corrupt("a corrupt file");
        }
    }

    /** Returns a document that is an object. */
    static Fields object(String where, ByteBuffer bytes) {
        return Fields.of(where, parse(where, bytes));
    }

    private static String decode(String where, ByteBuffer bytes) {
        try {
            return StandardCharsets.UTF_8
                    .newDecoder()
                    .onMalformedInput(CodingErrorAction.REPORT)
                    .decode(bytes.duplicate())
                    .toString();
        } catch (CharacterCodingException error) {
            throw EdgeException.damaged(where + ": found bytes that are no UTF-8, expected JSON");
        }
    }

    private void checkCharacters() {
        boolean inString = false;
        for (int place = 0; place < text.length(); place++) {
            char next = text.charAt(place);
            boolean odd = inString ? next < ' ' : next == BYTE_ORDER_MARK;
            if (odd) {
                throw corrupt("the character " + (int) next);
            }
            inString ^= next == '"';
            place += inString && next == '\\' ? 1 : 0; // what a backslash is before ends nothing
        }
    }

    /** Reads a value that is inside of {@code depth} others. */
    private Object value(int depth) throws IOException {
        switch (reader.peek()) {
            case BEGIN_OBJECT:
                return map(deeper(depth));
            case BEGIN_ARRAY:
                return list(deeper(depth));
            case STRING:
                return reader.nextString();
            case NUMBER:
                return number(reader.nextString());
            case BOOLEAN:
                return reader.nextBoolean();
            case NULL:
                reader.nextNull();
                return null;
            default:
                throw corrupt("a corrupt file");
        }
    }

    private int deeper(int depth) {
        if (depth == MAX_DEPTH) {
            throw EdgeException.damaged(
                    where + ": found JSON deeper than " + MAX_DEPTH + " levels, expected fewer");
        }
        return depth + 1;
    }

    private Map<String, Object> map(int depth) throws IOException {
        Map<String, Object> map = new LinkedHashMap<>();
        reader.beginObject();
        while (reader.hasNext()) {
            String name = reader.nextName();
            if (map.containsKey(name)) {
                throw corrupt("the name " + name + " twice");
            }
            map.put(name, value(depth));
        }
        reader.endObject();
        return map;
    }

    private List<Object> list(int depth) throws IOException {
        List<Object> list = new ArrayList<>();
        reader.beginArray();
        while (reader.hasNext()) {
            list.add(value(depth));
        }
        reader.endArray();
        return list;
    }

    private static Object number(String text) {
        boolean whole = text.indexOf('.') < 0 && text.indexOf('e') < 0 && text.indexOf('E') < 0;
        return whole ? (Object) Long.valueOf(text) : (Object) Double.valueOf(text);
    }

    private EdgeException corrupt(String found) {
        return EdgeException.damaged(where + ": found " + found + ", expected JSON; export again");
    }
}
