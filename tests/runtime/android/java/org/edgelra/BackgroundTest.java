package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.File;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import org.junit.jupiter.api.Test;

class BackgroundTest {
    private static Throwable cause(CompletableFuture<?> future) {
        return assertThrows(ExecutionException.class, future::get).getCause();
    }

    @Test
    void workRunsOnAThreadOfItsOwnInOrder() throws Exception {
        Background background = new Background(null);
        String first = background.submit(() -> Thread.currentThread().getName()).get();
        assertEquals("edge-lra", first);
        Thread one = background.submit(Thread::currentThread).get();
        assertSame(one, background.submit(Thread::currentThread).get());
        background.close();
    }

    @Test
    void theAppsExecutorIsUsed() throws Exception {
        Executor here = Runnable::run;
        Background background = new Background(here);
        assertSame(Thread.currentThread(), background.submit(Thread::currentThread).get());
    }

    @Test
    void closedIsAnErrorOfTheFuture() {
        Background background = new Background(null);
        background.close();
        EdgeException error = (EdgeException) cause(background.submit(() -> 1));
        assertEquals(EdgeException.Code.CLOSED, error.getCode());
    }

    @Test
    void anExecutorThatRefusesFailsTheFuture() {
        Executor full = task -> {
            throw new RejectedExecutionException("full");
        };
        assertEquals("full", cause(new Background(full).submit(() -> 1)).getMessage());
        assertEquals("full", cause(Background.once(full, () -> 1)).getMessage());
    }

    @Test
    void loadingInTheBackgroundFailsAsLoadingDoes() {
        CompletableFuture<EdgeRunner> future =
                EdgeRunner.loadAsync(new File("nowhere"), RunnerOptions.DEFAULT);
        EdgeException error = (EdgeException) cause(future);
        assertEquals(EdgeException.Code.NOT_FOUND, error.getCode());
    }
}
