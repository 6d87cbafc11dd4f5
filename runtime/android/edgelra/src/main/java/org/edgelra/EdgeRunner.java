package org.edgelra;

import java.io.File;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.jetbrains.annotations.NotNull;
import org.jetbrains.annotations.Nullable;

/**
 * A loaded bundle: its session, its adapters and its inputs, checked before each run.
 *
 * <p>All methods may be called from any thread, and runs may overlap; a run uses the default
 * adapter of the moment it begins. None of them belongs on Android's main thread: the {@code Async}
 * ones run elsewhere. {@link #close} waits for the runs that have begun; later calls get CLOSED.
 *
 * <p>Every mistake is an {@link EdgeException} of one line.
 */
public final class EdgeRunner implements AutoCloseable {
    private final LoadedBundle bundle;
    private final Tasks tasks;
    private final Background background;

    private EdgeRunner(LoadedBundle bundle, RunnerOptions options) {
        this.bundle = bundle;
        this.tasks = new Tasks(bundle);
        this.background = new Background(options.executor);
    }

    /** Opens a bundle with the default options. */
    @NotNull
    public static EdgeRunner load(@NotNull File folder) {
        return load(folder, RunnerOptions.DEFAULT);
    }

    /**
     * Opens a bundle for the CPU. onnxruntime maps the weights from the folder, which must stay.
     *
     * @param folder the bundle, {@code NAME.edge}.
     * @param options threads, when files are hashed, and so on.
     * @throws EdgeException NOT_FOUND, DAMAGED, UNSUPPORTED, RUNTIME or OUT_OF_MEMORY.
     */
    @NotNull
    public static EdgeRunner load(@NotNull File folder, @NotNull RunnerOptions options) {
        return new EdgeRunner(LoadedBundle.open(folder, options), options);
    }

    /** Opens a bundle on the options' executor, or on a thread of its own. */
    @NotNull
    public static CompletableFuture<EdgeRunner> loadAsync(
            @NotNull File folder, @NotNull RunnerOptions options) {
        return Background.once(options.executor, () -> load(folder, options));
    }

    /** Returns what the bundle's manifest says. */
    @NotNull
    public Manifest getManifest() {
        return bundle.manifest;
    }

    /** Returns the token inputs that {@link #run} takes. */
    @NotNull
    public List<String> getInputNames() {
        return bundle.inputNames;
    }

    /** Returns the outputs that {@link #run} gives. */
    @NotNull
    public List<String> getOutputNames() {
        return bundle.outputNames;
    }

    /** Returns the adapters one can choose; none in a merged bundle. */
    @NotNull
    public List<String> getAdapters() {
        return bundle.store.names();
    }

    /** Returns the adapter of a run that names none; null where the factors are off. */
    @Nullable
    public String getDefaultAdapter() {
        return bundle.defaultAdapter();
    }

    /**
     * Sets the default adapter; null turns the factors off. Reads no file.
     *
     * @throws EdgeException INVALID_ARGUMENT: there is no such adapter; the message lists them.
     */
    public void use(@Nullable String adapter) {
        bundle.use(adapter);
    }

    /** Runs one batch with the default adapter. */
    @NotNull
    public Map<String, Tensor> run(@NotNull Map<String, Tensor> inputs) {
        return bundle.run(inputs, getDefaultAdapter());
    }

    /**
     * Runs one batch.
     *
     * @param inputs tensors (batch, sequence) by input name; integers of any width serve as ids,
     *     and missing {@code token_type_ids} are zeros. A decoder reads whole prompts.
     * @param adapter a name; null for factors that are off.
     * @return the outputs by name, in the manifest's order.
     * @throws EdgeException INVALID_ARGUMENT: an input is missing, unknown or ill-shaped, or the
     *     adapter is unknown; FOREIGN_ADAPTER, DAMAGED, RUNTIME, OUT_OF_MEMORY or CLOSED.
     */
    @NotNull
    public Map<String, Tensor> run(
            @NotNull Map<String, Tensor> inputs, @Nullable String adapter) {
        return bundle.run(inputs, adapter);
    }

    /** Runs one batch in the background, with the default adapter of this moment. */
    @NotNull
    public CompletableFuture<Map<String, Tensor>> runAsync(@NotNull Map<String, Tensor> inputs) {
        return runAsync(inputs, getDefaultAdapter());
    }

    /** Runs one batch in the background; the future fails with what {@link #run} throws. */
    @NotNull
    public CompletableFuture<Map<String, Tensor>> runAsync(
            @NotNull Map<String, Tensor> inputs, @Nullable String adapter) {
        return background.submit(() -> bundle.run(inputs, adapter));
    }

    /** Labels texts with the default adapter. */
    @NotNull
    public List<Classification> classify(@NotNull List<long[]> texts) {
        return tasks.classify(texts, getDefaultAdapter());
    }

    /**
     * Labels texts. Those of one length run together, so that none is padded.
     *
     * @param texts the token ids of each, special tokens included; the tokenizer is the app's.
     * @param adapter a name; null for factors that are off.
     * @return one for each text.
     * @throws EdgeException as {@link #run}; UNSUPPORTED: the bundle's task is another.
     */
    @NotNull
    public List<Classification> classify(
            @NotNull List<long[]> texts, @Nullable String adapter) {
        return tasks.classify(texts, adapter);
    }

    /** Labels the rows of one batch of {@link #run}'s inputs: for pairs, and for padded rows. */
    @NotNull
    public List<Classification> classify(
            @NotNull Map<String, Tensor> inputs, @Nullable String adapter) {
        return tasks.classify(inputs, adapter);
    }

    /** Labels texts in the background, with the default adapter of this moment. */
    @NotNull
    public CompletableFuture<List<Classification>> classifyAsync(@NotNull List<long[]> texts) {
        return classifyAsync(texts, getDefaultAdapter());
    }

    /** Labels texts in the background. */
    @NotNull
    public CompletableFuture<List<Classification>> classifyAsync(
            @NotNull List<long[]> texts, @Nullable String adapter) {
        return background.submit(() -> tasks.classify(texts, adapter));
    }

    /**
     * Goes on from a prompt with the likeliest token, again and again.
     *
     * @param prompt token ids.
     * @param options the most tokens, the adapter, what ends the text.
     * @param listener told of each token as it comes; it may call {@link #close}. Null for none.
     * @throws EdgeException INVALID_ARGUMENT: the prompt is empty, holds unknown ids, or does not
     *     fit into the context with the tokens asked for; UNSUPPORTED: the bundle is no language
     *     model's; RUNTIME: also for logits that are not numbers; otherwise as {@link #run}.
     */
    @NotNull
    public Generation generate(
            @NotNull long[] prompt,
            @NotNull GenerateOptions options,
            @Nullable TokenListener listener) {
        return tasks.generate(prompt.clone(), options, listener);
    }

    /** Goes on from a prompt without a listener. */
    @NotNull
    public Generation generate(@NotNull long[] prompt, @NotNull GenerateOptions options) {
        return generate(prompt, options, null);
    }

    /** Goes on from a prompt with at most so many tokens of the default adapter. */
    @NotNull
    public Generation generate(@NotNull long[] prompt, int maxTokens) {
        return generate(prompt, GenerateOptions.DEFAULT.withMaxTokens(maxTokens), null);
    }

    /** Generates in the background; the listener is called there. */
    @NotNull
    public CompletableFuture<Generation> generateAsync(
            @NotNull long[] prompt,
            @NotNull GenerateOptions options,
            @Nullable TokenListener listener) {
        long[] ids = prompt.clone();
        return background.submit(() -> tasks.generate(ids, options, listener));
    }

    /**
     * Times runs of one shape with the default adapter, else the first: 2 to warm up, then as many
     * as fit into 5 seconds, at least 5. Let nothing else run meanwhile.
     *
     * @param batch rows.
     * @param tokens tokens of each.
     * @throws EdgeException as {@link #run}.
     */
    @NotNull
    public Profile profile(int batch, int tokens) {
        return tasks.profile(batch, tokens);
    }

    /**
     * Runs the golden vectors of the bundle and compares, for a phone's own kernels.
     *
     * @return the figures; no cases where the bundle was exported without verification.
     * @throws EdgeException GATE_FAILED: an answer is further from the float model than allowed, or
     *     a language model finds another token where one is clearly the likeliest.
     */
    @NotNull
    public GoldenReport checkGolden() {
        return tasks.checkGolden();
    }

    /** Waits for the runs that have begun, and frees the session. A second call does nothing. */
    @Override
    public void close() {
        background.close();
        bundle.close();
    }
}
