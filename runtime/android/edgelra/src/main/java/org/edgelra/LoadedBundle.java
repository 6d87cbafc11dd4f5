package org.edgelra;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicLong;

/** A bundle whose files were checked and whose graph is the manifest's. Thread-safe. */
final class LoadedBundle implements AutoCloseable {
    private static final String MODEL = "model.onnx";
    private static final String ORT_MODEL = "model.ort";
    private static final double NS_A_MS = 1e6;
    private static final long NOT_RUN = -1;

    final File folder;
    final Manifest manifest;
    final Session session;
    final AdapterStore store;
    final List<String> inputNames;
    final List<String> outputNames;
    final int context; // the most tokens of a language model's row; 0 for others
    final double loadMs;
    private final AtomicLong firstRunNs = new AtomicLong(NOT_RUN);
    private volatile String defaultAdapter;

    private LoadedBundle(
            File folder, Manifest manifest, Session session, RunnerOptions options, long start) {
        this.folder = folder;
        this.manifest = manifest;
        this.session = session;
        this.store = new AdapterStore(
                folder, manifest, options.verify != RunnerOptions.Verify.NEVER);
        this.inputNames = names(manifest.inputs);
        this.outputNames = names(manifest.outputs);
        this.context = context(manifest, options);
        use(store.names().isEmpty() ? null : manifest.defaultAdapter);
        checkGraph();
        this.loadMs = (System.nanoTime() - start) / NS_A_MS;
    }

    static LoadedBundle open(File folder, RunnerOptions options) {
        long start = System.nanoTime();
        Manifest manifest = ManifestReader.read(folder);
        context(manifest, options); // a wrong option is told before files are hashed
        new BundleFiles(folder, manifest, options.stampFolder).check(options.verify);
        Session session =
                Session.open(
                        model(folder, manifest),
                        manifest.sessionOptions,
                        manifest.minOnnxruntime,
                        options.threads);
        try {
            return new LoadedBundle(folder, manifest, session, options, start);
        } catch (RuntimeException | Error error) {
            session.close();
            throw error;
        }
    }

    private static File model(File folder, Manifest manifest) {
        Set<String> files = manifest.files.keySet();
        boolean ort = files.contains(ORT_MODEL) && !files.contains(MODEL);
        if (!ort && !files.contains(MODEL)) {
            throw EdgeException.damaged(
                    folder + ": found no " + MODEL + " and no " + ORT_MODEL
                            + " in the manifest, expected one; export again");
        }
        File model = BundlePaths.resolve(folder, ort ? ORT_MODEL : MODEL);
        if (!model.isFile()) {
            throw new EdgeException(
                    EdgeException.Code.NOT_FOUND,
                    model + ": found it missing, expected the bundle's graph; export again");
        }
        if (!ort) {
            try {
                ByteBuffer graph = FileBytes.read(model, Integer.MAX_VALUE - 8);
                for (String name : ExternalData.check(model.getPath(), graph, files)) {
                    BundlePaths.resolve(folder, name); // onnxruntime follows links
                }
            } catch (IOException error) {
                throw new EdgeException(
                        EdgeException.Code.NOT_FOUND,
                        model + ": cannot be read: " + EdgeException.firstLine(error),
                        error);
            }
        }
        return model;
    }

    private static int context(Manifest manifest, RunnerOptions options) {
        int longest = manifest.decoder == null ? 0 : manifest.decoder.contextLength;
        if (options.context > longest) {
            throw EdgeException.invalid(
                    "context: found " + options.context + ", expected "
                            + (longest == 0 ? "none: the bundle generates no text"
                                    : "2 to " + longest));
        }
        return options.context == 0 ? longest : options.context;
    }

    private void checkGraph() {
        Set<String> expected = new TreeSet<>(inputNames);
        Set<String> given = new TreeSet<>(outputNames);
        for (AdapterInput input : manifest.adapterInputs) {
            expected.add(input.name);
        }
        if (manifest.decoder != null) {
            expected.addAll(manifest.decoder.past);
            given.addAll(manifest.decoder.present);
            if (manifest.decoder.adapterIndex != null) {
                expected.add(manifest.decoder.adapterIndex);
            }
        }
        Set<String> odd = new TreeSet<>(expected);
        odd.removeAll(session.inputNames());
        for (String name : session.inputNames()) {
            if (!expected.contains(name)) {
                odd.add(name);
            }
        }
        refuse("inputs", odd);
        given.removeAll(session.outputNames());
        refuse("outputs", given);
    }

    private void refuse(String what, Set<String> odd) {
        if (!odd.isEmpty()) {
            throw EdgeException.damaged(
                    folder + ": graph and manifest disagree on " + what + ": "
                            + Text.join(", ", odd));
        }
    }

    String defaultAdapter() {
        return defaultAdapter;
    }

    void use(String adapter) {
        store.checkName(adapter);
        defaultAdapter = adapter;
    }

    Map<String, Tensor> run(Map<String, Tensor> inputs, String adapter) {
        session.checkOpen();
        Map<String, Tensor> factors = store.tensors(adapter);
        Map<String, Tensor> checked = Inputs.check(inputs, manifest);
        return run(Feeds.of(manifest, checked, factors));
    }

    /** Runs what was checked before. */
    Map<String, Tensor> run(Map<String, Tensor> feeds) {
        long start = System.nanoTime();
        Map<String, Tensor> outputs = session.run(feeds, outputNames);
        firstRunNs.compareAndSet(NOT_RUN, System.nanoTime() - start);
        return outputs;
    }

    double firstRunMs() {
        return firstRunNs.get() / NS_A_MS;
    }

    @Override
    public void close() {
        session.close();
    }

    private static List<String> names(List<TensorSpec> specs) {
        List<String> names = new ArrayList<>();
        for (TensorSpec spec : specs) {
            names.add(spec.getName());
        }
        return Collections.unmodifiableList(names);
    }
}
