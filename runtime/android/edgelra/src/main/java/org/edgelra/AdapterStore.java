package org.edgelra;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/** The adapters of one bundle: tensors by graph input, read when first used. Thread-safe. */
final class AdapterStore {
    /** A reload costs a few ms; a thousand adapters must not stay in memory. */
    static final int CACHED = 32;

    private static final long MAX_FILE_BYTES = Integer.MAX_VALUE - 8;

    private final File folder;
    private final Manifest manifest;
    private final boolean verify;
    private final Map<String, Manifest.AdapterEntry> entries;
    private final Map<String, Tensor> off;
    private final Map<String, Map<String, Tensor>> loaded =
            new LinkedHashMap<String, Map<String, Tensor>>(16, 0.75f, true) {
                private static final long serialVersionUID = 1L;

                @Override
                protected boolean removeEldestEntry(Map.Entry<String, Map<String, Tensor>> eldest) {
                    return size() > CACHED;
                }
            };

    /** Takes the bundle, and whether files are hashed when they are read. */
    AdapterStore(File folder, Manifest manifest, boolean verify) {
        this.folder = folder;
        this.manifest = manifest;
        this.verify = verify;
        boolean any = !manifest.adapterInputs.isEmpty();
        this.entries = any ? manifest.adapters : Collections.emptyMap();
        Map<String, Tensor> zeros = new LinkedHashMap<>();
        for (AdapterInput input : manifest.adapterInputs) {
            zeros.put(input.name, input.off);
        }
        this.off = Collections.unmodifiableMap(zeros);
    }

    /** Returns the adapters one can choose; none in a merged bundle. */
    List<String> names() {
        return Collections.unmodifiableList(new ArrayList<>(entries.keySet()));
    }

    /** Refuses a name that is none of the adapters'; null is fine. */
    void checkName(String name) {
        if (name != null && !entries.containsKey(name)) {
            String known = entries.isEmpty() ? "none" : Text.join(", ", entries.keySet());
            String merged = manifest.adapterInputs.isEmpty()
                    ? " (the bundle is " + manifest.getMode() + ")" : "";
            throw EdgeException.invalid(
                    "adapter: found \"" + name + "\", expected one of: " + known + merged);
        }
    }

    /** Returns the names of the outputs with an adapter; null where they have none. */
    List<String> labels(String name) {
        List<String> own = name == null ? null : entries.get(name).labels;
        return own == null || own.isEmpty() ? manifest.getLabels() : own;
    }

    /**
     * Returns what an adapter feeds the graph; null gives factors that are off.
     *
     * @throws EdgeException INVALID_ARGUMENT, FOREIGN_ADAPTER, DAMAGED or NOT_FOUND.
     */
    Map<String, Tensor> tensors(String name) {
        if (name == null) {
            if (!manifest.adapterInputs.isEmpty() && manifest.headIsAdapters) {
                throw EdgeException.invalid(
                        "adapter: found none, expected one of: " + Text.join(", ", names())
                                + "; the base has no trained head");
            }
            return off;
        }
        checkName(name);
        synchronized (loaded) {
            Map<String, Tensor> tensors = loaded.get(name);
            if (tensors == null) {
                tensors = read(name);
                loaded.put(name, tensors);
            }
            return tensors;
        }
    }

    private Map<String, Tensor> read(String name) {
        Manifest.AdapterEntry entry = entries.get(name);
        if (!entry.base.equals(manifest.baseFingerprint)) {
            throw new EdgeException(
                    EdgeException.Code.FOREIGN_ADAPTER,
                    "adapter " + name + ": is foreign: found base " + start(entry.base)
                            + ", expected " + start(manifest.baseFingerprint)
                            + "; export it for this base");
        }
        Map<String, Tensor> stored = Safetensors.read("adapter " + name, content(name, entry));
        TreeSet<String> unknown = new TreeSet<>(stored.keySet());
        unknown.removeAll(off.keySet());
        if (!unknown.isEmpty()) {
            throw EdgeException.damaged(
                    "adapter " + name + ": the graph has no input \"" + unknown.first() + "\"");
        }
        Map<String, Tensor> found = new LinkedHashMap<>();
        Map<String, Long> sizes = new HashMap<>();
        for (AdapterInput input : manifest.adapterInputs) {
            found.put(input.name, fitted(name, input, stored.get(input.name), sizes));
        }
        return Collections.unmodifiableMap(found);
    }

    private ByteBuffer content(String name, Manifest.AdapterEntry entry) {
        File file = BundlePaths.resolve(folder, entry.file);
        ByteBuffer bytes;
        try {
            bytes = FileBytes.read(file, MAX_FILE_BYTES);
        } catch (IOException error) {
            throw new EdgeException(
                    EdgeException.Code.NOT_FOUND,
                    "adapter " + name + ": " + file + " cannot be read: "
                            + EdgeException.firstLine(error),
                    error);
        }
        Manifest.FileEntry listed = manifest.files.get(entry.file);
        if (verify && (listed == null || !Hashes.of(bytes).equals(listed.sha256))) {
            throw EdgeException.damaged(
                    "adapter " + name + ": its file changed since export; export it again");
        }
        return bytes;
    }

    private static Tensor fitted(
            String name, AdapterInput input, Tensor tensor, Map<String, Long> sizes) {
        String where = "adapter " + name + ": ";
        if (tensor == null) {
            if (!input.canBeOff()) {
                throw EdgeException.damaged(
                        where + "found no " + input.name + ", expected shape " + input.axes
                                + "; export it again");
            }
            return input.off; // the adapter leaves this site alone
        }
        long[] shape = tensor.shape();
        boolean fits = shape.length == input.axes.size() && tensor.getDtype() == input.dtype;
        for (int place = 0; fits && place < shape.length; place++) {
            Axis axis = input.axes.get(place);
            if (axis.isNamed() && !sizes.containsKey(axis.name)) {
                sizes.put(axis.name, shape[place]);
            }
            fits = shape[place] == (axis.isNamed() ? sizes.get(axis.name) : axis.size);
        }
        if (!fits) {
            throw EdgeException.damaged(
                    where + input.name + ": found " + tensor + ", expected " + input.dtype
                            + input.axes + "; export it for this base");
        }
        return tensor;
    }

    private static String start(String fingerprint) {
        return fingerprint.substring(0, Math.min(12, fingerprint.length()));
    }
}
