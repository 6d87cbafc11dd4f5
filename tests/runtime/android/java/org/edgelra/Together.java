package org.edgelra;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Runs one runner from many threads, each with another adapter, and closes it in between. */
final class Together {
    private static final int THREADS = 8;
    private static final int RUNS = 25;

    private Together() {}

    static void run(EdgeRunner runner, Map<String, Tensor> inputs, Map<String, Object> answer) {
        List<String> adapters = runner.getAdapters();
        List<float[]> expected = new ArrayList<>();
        for (String adapter : adapters) {
            expected.add(runner.run(inputs, adapter).get("logits").toFloats());
        }
        AtomicInteger wrong = new AtomicInteger();
        AtomicInteger right = new AtomicInteger();
        each(thread -> {
            for (int run = 0; run < RUNS; run++) {
                int place = (thread + run) % adapters.size();
                runner.use(adapters.get(run % adapters.size()));
                float[] found = runner.run(inputs, adapters.get(place)).get("logits").toFloats();
                (Arrays.equals(found, expected.get(place)) ? right : wrong).incrementAndGet();
            }
        });
        AtomicInteger closed = new AtomicInteger();
        each(thread -> {
            for (int run = 0; run < RUNS; run++) {
                if (thread == 0 && run == 2) {
                    runner.close();
                }
                try {
                    runner.run(inputs, adapters.get(0));
                } catch (EdgeException error) {
                    (error.getCode() == EdgeException.Code.CLOSED ? closed : wrong)
                            .incrementAndGet();
                }
            }
        });
        answer.put("right", right.get());
        answer.put("wrong", wrong.get());
        answer.put("closed", closed.get());
    }

    private interface Work {
        void run(int thread);
    }

    private static void each(Work work) {
        ExecutorService threads = Executors.newFixedThreadPool(THREADS);
        List<Future<?>> futures = new ArrayList<>();
        for (int thread = 0; thread < THREADS; thread++) {
            int number = thread;
            futures.add(threads.submit(() -> work.run(number)));
        }
        threads.shutdown();
        try {
            for (Future<?> future : futures) {
                future.get(60, TimeUnit.SECONDS);
            }
        } catch (Exception error) {
            throw new AssertionError(error);
        }
    }
}
