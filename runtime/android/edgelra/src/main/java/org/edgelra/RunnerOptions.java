package org.edgelra;

import java.io.File;
import java.util.concurrent.Executor;
import org.jetbrains.annotations.NotNull;
import org.jetbrains.annotations.Nullable;

/** How a bundle is opened. Immutable; each {@code with} method returns a changed copy. */
public final class RunnerOptions {
    /** When the files are compared with the hashes in the manifest. */
    public enum Verify {
        /** At the first load; afterwards sizes and times against a stamp. */
        ONCE,
        /** At every load. */
        ALWAYS,
        /** Never: for a bundle that the app's own package protects. */
        NEVER
    }

    /** The defaults: onnxruntime's threads, files hashed once, stamps in the temporary folder. */
    @NotNull
    public static final RunnerOptions DEFAULT =
            new RunnerOptions(
                    0,
                    Verify.ONCE,
                    new File(new File(System.getProperty("java.io.tmpdir", ".")), "edge-lra"),
                    0,
                    null);

    private static final int MAX_THREADS = 1024;

    final int threads; // 0: onnxruntime's choice
    final Verify verify;
    final File stampFolder;
    final int context; // 0: the model's
    final Executor executor; // null: a thread of the runner's own

    private RunnerOptions(
            int threads, Verify verify, File stampFolder, int context, Executor executor) {
        this.threads = threads;
        this.verify = verify;
        this.stampFolder = stampFolder;
        this.context = context;
        this.executor = executor;
    }

    /**
     * Sets the threads within an operator; on a phone as many as it has fast cores.
     *
     * @throws EdgeException INVALID_ARGUMENT: not 1 to 1024.
     */
    @NotNull
    public RunnerOptions withThreads(int count) {
        if (count < 1 || count > MAX_THREADS) {
            throw EdgeException.invalid(
                    "threads: found " + count + ", expected 1 to " + MAX_THREADS);
        }
        return new RunnerOptions(count, verify, stampFolder, context, executor);
    }

    /** Sets when the files are hashed. */
    @NotNull
    public RunnerOptions withVerify(@NotNull Verify when) {
        return new RunnerOptions(threads, when, stampFolder, context, executor);
    }

    /**
     * Sets the folder where ONCE remembers its checks. It must be the app's own: whoever can write
     * there can have a check left out.
     */
    @NotNull
    public RunnerOptions withStampFolder(@NotNull File folder) {
        return new RunnerOptions(threads, verify, folder, context, executor);
    }

    /**
     * Sets the most tokens of a language model's prompt and text together; memory is taken as
     * tokens come.
     *
     * @throws EdgeException INVALID_ARGUMENT: less than 2.
     */
    @NotNull
    public RunnerOptions withContext(int tokens) {
        if (tokens < 2) {
            throw EdgeException.invalid("context: found " + tokens + ", expected at least 2");
        }
        return new RunnerOptions(threads, verify, stampFolder, tokens, executor);
    }

    /** Sets where the {@code Async} methods run; null for a thread of the runner's own. */
    @NotNull
    public RunnerOptions withExecutor(@Nullable Executor where) {
        return new RunnerOptions(threads, verify, stampFolder, context, where);
    }
}
