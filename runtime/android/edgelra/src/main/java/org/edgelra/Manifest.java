package org.edgelra;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jetbrains.annotations.NotNull;
import org.jetbrains.annotations.Nullable;

/** What a bundle's {@code manifest.json} says: all that is needed to feed and read its graph. */
public final class Manifest {
    /** A file of the bundle. */
    static final class FileEntry {
        final long size;
        final String sha256;

        FileEntry(Fields fields) {
            size = fields.whole("size", 0, Long.MAX_VALUE);
            sha256 = fields.text("sha256");
        }
    }

    /** An adapter of a factored bundle. */
    static final class AdapterEntry {
        final String file;
        final String base;
        final List<String> labels; // null where it has no head of its own

        AdapterEntry(Fields fields) {
            file = fields.text("file");
            base = fields.text("base");
            labels = fields.textsOrNull("labels");
        }
    }

    final String seal;
    final Map<String, FileEntry> files;
    final Map<String, AdapterEntry> adapters;
    final List<AdapterInput> adapterInputs;
    final List<TensorSpec> inputs;
    final List<TensorSpec> outputs;
    final Map<String, String> sessionOptions;
    final List<String> goldenAdapters;
    final double kernelSpread;
    final String baseFingerprint;
    final String minOnnxruntime;
    final String defaultAdapter;
    final String tokenizerFile;
    final boolean headIsAdapters;
    final long maxLength; // 0 for any
    final long vocabularySize; // 0 for any
    final DecoderSpec decoder; // null for other models
    private final String name;
    private final String task;
    private final String mode;
    private final String problemType;
    private final List<String> labels;

    Manifest(Fields fields) {
        seal = fields.text("sha256");
        files = readFiles(fields.object("files"));
        baseFingerprint = fields.text("base_fingerprint");
        name = fields.text("name");
        task = fields.text("task");
        mode = fields.text("mode");
        problemType = fields.textOrNull("problem_type");
        labels = fields.textsOrNull("labels");
        inputs = specs(fields.objects("inputs"));
        outputs = specs(fields.objects("outputs"));
        adapterInputs = new ArrayList<>();
        for (Fields entry : fields.objects("adapter_inputs")) {
            adapterInputs.add(AdapterInput.read(entry));
        }
        adapters = readAdapters(fields.objectOrEmpty("adapters"));
        defaultAdapter = fields.textOrNull("default_adapter");
        headIsAdapters = "adapter".equals(fields.textOrNull("head"));
        tokenizerFile = fields.has("tokenizer") ? fields.object("tokenizer").text("file") : null;
        minOnnxruntime = fields.textOrNull("min_onnxruntime");
        sessionOptions = readOptions(fields.objectOrEmpty("session_options"));
        maxLength = optionalSize(fields, "max_length");
        vocabularySize = optionalSize(fields, "vocabulary_size");
        decoder = fields.has("decoder") ? new DecoderSpec(fields.object("decoder")) : null;
        Fields golden = fields.objectOrEmpty("golden");
        goldenAdapters = new ArrayList<>();
        for (Object adapter : golden.listOrEmpty("adapters")) {
            goldenAdapters.add(golden.textOrNull("adapters", adapter));
        }
        kernelSpread = golden.number("kernel_spread", 0.0);
    }

    /** Returns the bundle's name, for people. */
    @NotNull
    public String getName() {
        return name;
    }

    /** Returns what the outputs mean, such as {@code sequence-classification}. */
    @NotNull
    public String getTask() {
        return task;
    }

    /** Returns {@code merged}, {@code factored} or {@code base}. */
    @NotNull
    public String getMode() {
        return mode;
    }

    /** Returns what a classification's logits mean, such as {@code regression}. */
    @Nullable
    public String getProblemType() {
        return problemType;
    }

    /** Returns the names of the outputs of the base's head; an adapter's own go before them. */
    @Nullable
    public List<String> getLabels() {
        return labels;
    }

    /** Returns the token inputs that a run takes. */
    @NotNull
    public List<TensorSpec> getInputs() {
        return inputs;
    }

    /** Returns the outputs that a run gives. */
    @NotNull
    public List<TensorSpec> getOutputs() {
        return outputs;
    }

    /** Returns the token ids that end a text; none for a model that writes none. */
    @NotNull
    public long[] getEosTokenIds() {
        return decoder == null ? new long[0] : decoder.eosTokenIds.clone();
    }

    private static Map<String, FileEntry> readFiles(Fields fields) {
        Map<String, FileEntry> found = new LinkedHashMap<>();
        for (String file : fields.names()) {
            found.put(file, new FileEntry(fields.object(file)));
        }
        return Collections.unmodifiableMap(found);
    }

    private static Map<String, AdapterEntry> readAdapters(Fields fields) {
        Map<String, AdapterEntry> found = new LinkedHashMap<>();
        for (String adapter : fields.names()) {
            found.put(adapter, new AdapterEntry(fields.object(adapter)));
        }
        return Collections.unmodifiableMap(found);
    }

    private static List<TensorSpec> specs(List<Fields> entries) {
        List<TensorSpec> found = new ArrayList<>();
        for (Fields entry : entries) {
            found.add(TensorSpec.read(entry));
        }
        return Collections.unmodifiableList(found);
    }

    private static Map<String, String> readOptions(Fields fields) {
        Map<String, String> found = new LinkedHashMap<>();
        for (String key : fields.names()) {
            found.put(key, fields.scalar(key));
        }
        return found;
    }

    private static long optionalSize(Fields fields, String entry) {
        return fields.has(entry) ? fields.whole(entry, 1, Long.MAX_VALUE) : 0;
    }
}
