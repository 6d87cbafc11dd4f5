package org.edgelra;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.BufferedReader;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The runner behind a pipe: reads a JSON request a line, writes a JSON answer a line. For tests in
 * another language; a mistake is answered as {@code {"code": .., "message": ..}}.
 */
public final class Probe {
    private static final Gson GSON =
            new GsonBuilder().serializeSpecialFloatingPointValues().serializeNulls().create();

    private final Map<Long, EdgeRunner> runners = new HashMap<>();

    private Probe() {}

    public static void main(String[] arguments) throws IOException {
        Probe probe = new Probe();
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        BufferedReader in =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            byte[] bytes = line.getBytes(StandardCharsets.UTF_8);
            out.println(GSON.toJson(probe.answer(Json.object("request", ByteBuffer.wrap(bytes)))));
        }
    }

    private Map<String, Object> answer(Fields request) throws IOException {
        Map<String, Object> answer = new LinkedHashMap<>();
        try {
            fill(request, answer);
        } catch (EdgeException error) {
            answer.clear();
            answer.put("code", error.getCode().name());
            answer.put("message", error.getMessage());
        }
        return answer;
    }

    private void fill(Fields request, Map<String, Object> answer) throws IOException {
        switch (request.text("do")) {
            case "load":
                load(request, answer);
                break;
            case "run":
                run(request, answer);
                break;
            case "use":
                runner(request).use(request.textOrNull("adapter"));
                answer.put("defaultAdapter", runner(request).getDefaultAdapter());
                break;
            case "classify":
                classify(request, answer);
                break;
            case "generate":
                generate(request, answer);
                break;
            case "golden":
                golden(runner(request).checkGolden(), answer);
                break;
            case "profile":
                profile(request, answer);
                break;
            case "integers":
                integers(new File(request.text("folder")), answer);
                break;
            case "together":
                Together.run(runner(request), tensors(new File(request.text("inputs"))), answer);
                break;
            case "soak":
                soak(request, answer);
                break;
            case "close":
                runner(request).close();
                break;
            default:
                throw EdgeException.invalid("request: found " + request.text("do"));
        }
    }

    private EdgeRunner runner(Fields request) {
        return runners.get(request.whole("runner", 0, Long.MAX_VALUE));
    }

    private void load(Fields request, Map<String, Object> answer) {
        RunnerOptions options = RunnerOptions.DEFAULT.withThreads(1);
        if (request.has("threads")) {
            options = options.withThreads((int) request.whole("threads", -9, 9999));
        }
        if (request.has("verify")) {
            options = options.withVerify(RunnerOptions.Verify.valueOf(request.text("verify")));
        }
        if (request.has("stamps")) {
            options = options.withStampFolder(new File(request.text("stamps")));
        }
        if (request.has("context")) {
            options = options.withContext((int) request.whole("context", -9, 1 << 30));
        }
        EdgeRunner runner = EdgeRunner.load(new File(request.text("bundle")), options);
        long number = runners.size();
        runners.put(number, runner);
        answer.put("runner", number);
        answer.put("inputNames", runner.getInputNames());
        answer.put("outputNames", runner.getOutputNames());
        answer.put("adapters", runner.getAdapters());
        answer.put("defaultAdapter", runner.getDefaultAdapter());
    }

    private void run(Fields request, Map<String, Object> answer) throws IOException {
        Map<String, Tensor> inputs = tensors(new File(request.text("inputs")));
        EdgeRunner runner = runner(request);
        Map<String, Tensor> outputs =
                request.names().contains("adapter")
                        ? runner.run(inputs, request.textOrNull("adapter"))
                        : runner.run(inputs);
        write(outputs, new File(request.text("out")), answer);
    }

    private static Map<String, Tensor> tensors(File file) throws IOException {
        return Safetensors.read(file.getPath(), FileBytes.read(file, Integer.MAX_VALUE));
    }

    private static void write(Map<String, Tensor> tensors, File out, Map<String, Object> answer)
            throws IOException {
        try (FileOutputStream stream = new FileOutputStream(out)) {
            for (Map.Entry<String, Tensor> entry : tensors.entrySet()) {
                Tensor tensor = entry.getValue();
                List<Object> description = new ArrayList<>();
                description.add(tensor.getDtype().toString());
                description.add(tensor.getShape());
                answer.put(entry.getKey(), description);
                stream.getChannel().write(tensor.getData());
            }
        }
    }

    private void classify(Fields request, Map<String, Object> answer) {
        List<long[]> texts = new ArrayList<>();
        for (Object row : request.list("texts")) {
            List<?> ids = (List<?>) row;
            long[] text = new long[ids.size()];
            for (int place = 0; place < text.length; place++) {
                text[place] = (Long) ids.get(place);
            }
            texts.add(text);
        }
        List<Object> found = new ArrayList<>();
        for (Classification one : runner(request).classify(texts, request.textOrNull("adapter"))) {
            Map<String, Object> entry = new LinkedHashMap<>();
            entry.put("label", one.getLabel());
            entry.put("score", one.getScore());
            entry.put("scores", one.getScores());
            found.add(entry);
        }
        answer.put("found", found);
    }

    private void generate(Fields request, Map<String, Object> answer) {
        GenerateOptions options =
                GenerateOptions.DEFAULT.withMaxTokens((int) request.whole("max_tokens", -9, 9999));
        if (request.names().contains("adapter")) {
            options = options.withAdapter(request.textOrNull("adapter"));
        }
        if (request.has("stop_tokens")) {
            options = options.withStopTokens(request.wholes("stop_tokens"));
        }
        List<Long> heard = new ArrayList<>();
        long most = request.has("listen") ? request.whole("listen", 0, 9999) : Long.MAX_VALUE;
        boolean closes = request.has("close");
        EdgeRunner runner = runner(request);
        TokenListener listener = token -> {
            heard.add(token);
            if (closes) {
                runner.close();
            }
            return heard.size() < most;
        };
        Generation found = runner.generate(request.wholes("prompt"), options, listener);
        answer.put("tokens", found.getTokens());
        answer.put("heard", heard);
        answer.put("stoppedBy", found.getStoppedBy().name());
        answer.put("promptTokens", found.getPromptTokens());
        answer.put("prefillS", found.getPrefillS());
        answer.put("decodeS", found.getDecodeS());
    }

    private static void golden(GoldenReport report, Map<String, Object> answer) {
        answer.put("cases", report.getCases());
        answer.put("max_abs_error", report.getMaxAbsError());
        answer.put("max_abs_error_float", report.getMaxAbsErrorFloat());
        answer.put("allowed_error_float", report.getAllowedErrorFloat());
        answer.put("decided", report.getDecided());
        answer.put("agreed", report.getAgreed());
    }

    private void profile(Fields request, Map<String, Object> answer) {
        Profile found =
                runner(request)
                        .profile(
                                (int) request.whole("batch", -9, 9999),
                                (int) request.whole("tokens", -9, 9999));
        answer.put("adapter", found.getAdapter());
        answer.put("runs", found.getLatenciesMs().length);
        answer.put("p50_ms", found.getP50Ms());
        answer.put("p99_ms", found.getP99Ms());
        answer.put("min_ms", found.getMinMs());
        answer.put("mean_ms", found.getMeanMs());
        answer.put("load_ms", found.getLoadMs());
        answer.put("first_run_ms", found.getFirstRunMs());
        answer.put("peak_rss_mib", found.getPeakRssMib());
    }

    /** Runs the committed products of integers and counts those that differ. */
    private static void integers(File folder, Map<String, Object> answer) throws IOException {
        Map<String, Tensor> tensors = tensors(new File(folder, "integers.safetensors"));
        Map<String, Tensor> inputs = new LinkedHashMap<>();
        List<String> outputs = new ArrayList<>();
        for (Map.Entry<String, Tensor> entry : tensors.entrySet()) {
            if (entry.getKey().startsWith("a.")) {
                inputs.put(entry.getKey(), entry.getValue());
            } else {
                outputs.add(entry.getKey());
            }
        }
        int wrong = 0;
        Map<String, String> none = new HashMap<>();
        try (Session session = Session.open(new File(folder, "integers.onnx"), none, null, 1)) {
            for (Map.Entry<String, Tensor> found : session.run(inputs, outputs).entrySet()) {
                int[] expected = tensors.get(found.getKey()).toInts();
                wrong += java.util.Arrays.equals(found.getValue().toInts(), expected) ? 0 : 1;
            }
        }
        answer.put("cases", outputs.size());
        answer.put("wrong", wrong);
    }

    /** Opens, runs and closes a bundle many times; answers the resident MiB of a few moments. */
    private void soak(Fields request, Map<String, Object> answer) throws IOException {
        File bundle = new File(request.text("bundle"));
        Map<String, Tensor> inputs = tensors(new File(request.text("inputs")));
        RunnerOptions options = RunnerOptions.DEFAULT.withThreads(1);
        long rounds = request.whole("rounds", 1, 1 << 20);
        List<Double> moments = new ArrayList<>();
        for (long round = 0; round < rounds; round++) {
            try (EdgeRunner runner = EdgeRunner.load(bundle, options)) {
                for (int run = 0; run < 10; run++) {
                    runner.run(inputs);
                }
            }
            if (round % (rounds / 4) == rounds / 4 - 1) {
                System.gc(); // direct memory is freed with its buffers
                moments.add(Memory.residentMib());
            }
        }
        answer.put("moments", moments);
    }
}
