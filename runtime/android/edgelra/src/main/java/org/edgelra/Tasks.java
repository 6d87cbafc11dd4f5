package org.edgelra;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** What a bundle is for: labels, text, and the proof that it works here. Thread-safe. */
final class Tasks {
    private static final int BATCH_SIZE = 16;
    private static final String CLASSIFICATION = "sequence-classification";
    private static final String LOGITS = "logits";

    private final LoadedBundle bundle;
    private final Manifest manifest;

    Tasks(LoadedBundle bundle) {
        this.bundle = bundle;
        this.manifest = bundle.manifest;
    }

    List<Classification> classify(List<long[]> texts, String adapter) {
        expect("classify", CLASSIFICATION);
        bundle.store.tensors(adapter); // a bad adapter is an error for an empty list too
        Map<Integer, List<Integer>> byLength = new TreeMap<>();
        for (int place = 0; place < texts.size(); place++) {
            int length = texts.get(place).length;
            byLength.computeIfAbsent(length, size -> new ArrayList<>()).add(place);
        }
        Classification[] found = new Classification[texts.size()];
        for (List<Integer> places : byLength.values()) {
            for (int start = 0; start < places.size(); start += BATCH_SIZE) {
                int end = Math.min(places.size(), start + BATCH_SIZE);
                classify(texts, places.subList(start, end), adapter, found);
            }
        }
        return Collections.unmodifiableList(Arrays.asList(found));
    }

    private void classify(
            List<long[]> texts, List<Integer> places, String adapter, Classification[] found) {
        long[][] rows = new long[places.size()][];
        for (int row = 0; row < rows.length; row++) {
            rows[row] = texts.get(places.get(row));
        }
        List<Classification> labels = classify(tokens(Tensor.ofRows(rows)), adapter);
        for (int row = 0; row < rows.length; row++) {
            found[places.get(row)] = labels.get(row);
        }
    }

    List<Classification> classify(Map<String, Tensor> inputs, String adapter) {
        expect("classify", CLASSIFICATION);
        Tensor logits = bundle.run(inputs, adapter).get(LOGITS);
        if (logits == null || logits.shape().length != 2) {
            throw EdgeException.damaged(
                    "classify: found " + logits + ", expected logits (batch, labels)");
        }
        int width = (int) logits.shape()[1];
        float[] values = logits.toFloats();
        List<Classification> found = new ArrayList<>();
        for (int start = 0; start < values.length; start += width) {
            found.add(
                    Classification.of(
                            Arrays.copyOfRange(values, start, start + width),
                            bundle.store.labels(adapter),
                            manifest.getProblemType()));
        }
        return Collections.unmodifiableList(found);
    }

    /** Returns the inputs of attended tokens that this graph has. */
    private Map<String, Tensor> tokens(Tensor ids) {
        Map<String, Tensor> inputs = new LinkedHashMap<>(Inputs.ofTokens(ids));
        inputs.keySet().retainAll(bundle.inputNames);
        return inputs;
    }

    Generation generate(long[] prompt, GenerateOptions options, TokenListener listener) {
        expectDecoder();
        GreedyDecoder.checkRoom(prompt.length, options.maxTokens, bundle.context);
        String adapter = options.adapterChosen ? options.adapter : bundle.defaultAdapter();
        long[] stops = options.stopTokens == null
                ? manifest.decoder.eosTokenIds : options.stopTokens;
        try (KeyValueCache cache = cache(adapter)) {
            cache.reserve(prompt.length);
            return new GreedyDecoder(cache, options.maxTokens, stops, listener).run(prompt);
        }
    }

    private KeyValueCache cache(String adapter) {
        bundle.session.checkOpen();
        return new KeyValueCache(
                bundle.session, manifest, bundle.context, bundle.store.tensors(adapter));
    }

    Profile profile(int batch, int tokens) {
        if (batch < 1 || tokens < 1) {
            throw EdgeException.invalid(
                    "profile: found a shape of " + batch + "x" + tokens + ", expected at least 1x1");
        }
        List<String> adapters = bundle.store.names();
        String named = bundle.defaultAdapter();
        String adapter = named != null || adapters.isEmpty() ? named : adapters.get(0);
        Map<String, Tensor> factors = bundle.store.tensors(adapter);
        Map<String, Tensor> inputs =
                Inputs.check(Profiler.inputs(manifest, batch, tokens), manifest);
        Map<String, Tensor> feeds = Feeds.of(manifest, inputs, factors);
        double[] latenciesMs = Profiler.time(() -> bundle.run(feeds), Profiler.BUDGET_MS);
        return new Profile(
                batch,
                tokens,
                adapter,
                latenciesMs,
                bundle.loadMs,
                bundle.firstRunMs(),
                Memory.peakRssMib());
    }

    GoldenReport checkGolden() {
        List<GoldenCase> cases = GoldenCase.read(bundle.folder, manifest);
        List<Map<String, Tensor>> outputs = new ArrayList<>();
        List<long[]> next = new ArrayList<>();
        for (GoldenCase golden : cases) {
            String adapter = bundle.store.names().isEmpty() ? null : golden.adapter;
            if (manifest.decoder == null) {
                outputs.add(bundle.run(golden.inputs, adapter));
                next.add(null);
            } else {
                runPrompt(golden, adapter, outputs, next);
            }
        }
        GoldenReport report = GoldenComparison.compare(manifest, cases, outputs, next);
        refuse(report);
        return report;
    }

    private void runPrompt(
            GoldenCase golden,
            String adapter,
            List<Map<String, Tensor>> outputs,
            List<long[]> next) {
        try (KeyValueCache cache = cache(adapter)) {
            Tensor ids = golden.inputs.get("input_ids");
            if (ids == null) {
                throw EdgeException.damaged(GoldenCase.FILE + ": found no input_ids of a prompt");
            }
            float[] logits = new float[(int) manifest.vocabularySize];
            cache.read(ids.toLongs()).asFloatBuffer().get(logits);
            outputs.add(
                    Collections.singletonMap(LOGITS, Tensor.ofFloats(logits, 1, 1, logits.length)));
            long[] tokens = new long[golden.tokens == null ? 0 : golden.tokens.length];
            for (int step = 0; step < tokens.length; step++) {
                tokens[step] = KeyValueCache.best(
                        step == 0 ? cache.logits()
                                : cache.read(new long[] {golden.tokens[step - 1]}));
            }
            next.add(tokens);
        }
    }

    private void refuse(GoldenReport report) {
        if (!report.isClose()) {
            throw new EdgeException(
                    EdgeException.Code.GATE_FAILED,
                    bundle.folder + ": found answers " + report.getMaxAbsErrorFloat()
                            + " from the float model, expected at most "
                            + report.getAllowedErrorFloat() + " (it was "
                            + report.getRecordedErrorFloat()
                            + " at export); do not ship it on this machine");
        }
        if (manifest.decoder != null && report.getAgreed() < report.getDecided()) {
            throw new EdgeException(
                    EdgeException.Code.GATE_FAILED,
                    bundle.folder + ": found other tokens than at export at "
                            + (report.getDecided() - report.getAgreed()) + " of "
                            + report.getDecided() + " places where one is clearly the likeliest, "
                            + "expected the same; do not ship it on this machine");
        }
    }

    private void expectDecoder() {
        if (manifest.decoder == null) {
            expect("generate", "text-generation");
        }
    }

    private void expect(String method, String task) {
        if (!manifest.getTask().equals(task)) {
            throw new EdgeException(
                    EdgeException.Code.UNSUPPORTED,
                    method + ": the bundle's task is " + manifest.getTask() + ", expected " + task);
        }
    }
}
