package org.edgelra;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.function.Supplier;

/** Where the {@code Async} methods run: the app's executor, or one thread, begun when needed. */
final class Background {
    private static final String NAME = "edge-lra";

    private final Executor given; // null: a thread of our own
    private ExecutorService own; // guarded by this
    private boolean closed; // guarded by this

    Background(Executor given) {
        this.given = given;
    }

    <T> CompletableFuture<T> submit(Supplier<T> work) {
        try {
            return CompletableFuture.supplyAsync(work, executor());
        } catch (RejectedExecutionException | EdgeException error) {
            return failed(error);
        }
    }

    private synchronized Executor executor() {
        if (closed) {
            throw new EdgeException(
                    EdgeException.Code.CLOSED, "the runner is closed; load it again");
        }
        if (given != null) {
            return given;
        }
        if (own == null) {
            own = Executors.newSingleThreadExecutor(Background::thread);
        }
        return own;
    }

    /** Runs one piece of work where there is no runner yet. */
    static <T> CompletableFuture<T> once(Executor given, Supplier<T> work) {
        Executor executor = given != null ? given : task -> thread(task).start();
        try {
            return CompletableFuture.supplyAsync(work, executor);
        } catch (RejectedExecutionException error) {
            return failed(error);
        }
    }

    private static Thread thread(Runnable task) {
        Thread thread = new Thread(task, NAME);
        thread.setDaemon(true);
        return thread;
    }

    private static <T> CompletableFuture<T> failed(Throwable error) {
        CompletableFuture<T> future = new CompletableFuture<>();
        future.completeExceptionally(error);
        return future;
    }

    /** Takes no more work; what was submitted still ends, if only with CLOSED. */
    synchronized void close() {
        closed = true;
        if (own != null) {
            own.shutdown();
        }
    }
}
