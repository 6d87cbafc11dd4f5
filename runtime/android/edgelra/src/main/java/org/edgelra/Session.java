package org.edgelra;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import java.io.File;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;

/** An onnxruntime session on the CPU. Runs may overlap; closing waits for them. */
final class Session implements AutoCloseable {
    private final String where;
    private final OrtEnvironment environment;
    private final OrtSession session;
    private final ReadWriteLock lock = new ReentrantReadWriteLock();
    private boolean closed; // guarded by lock

    private Session(String where, OrtEnvironment environment, OrtSession session) {
        this.where = where;
        this.environment = environment;
        this.session = session;
    }

    /**
     * Opens a model by its path: onnxruntime maps its weights from there.
     *
     * @param model the file.
     * @param options config entries by onnxruntime's keys.
     * @param minimum the oldest onnxruntime that runs it; null for any.
     * @param threads threads within an operator; 0 leaves it to onnxruntime.
     * @throws EdgeException UNSUPPORTED: onnxruntime is absent or too old; RUNTIME: it refuses.
     */
    static Session open(File model, Map<String, String> options, String minimum, int threads) {
        String where = model.getParent();
        OrtEnvironment environment = environment(where);
        Versions.check(where, environment.getVersion(), minimum);
        try (OrtSession.SessionOptions settings = new OrtSession.SessionOptions()) {
            environment.setTelemetry(false);
            settings.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR);
            settings.setInterOpNumThreads(1);
            if (threads > 0) {
                settings.setIntraOpNumThreads(threads);
            }
            for (Map.Entry<String, String> entry : options.entrySet()) {
                settings.addConfigEntry(entry.getKey(), entry.getValue());
            }
            OrtSession session = environment.createSession(model.getPath(), settings);
            return new Session(where, environment, session);
        } catch (OrtException error) {
            throw failed(where + ": onnxruntime cannot open it", error);
        }
    }

    private static OrtEnvironment environment(String where) {
        try {
            return OrtEnvironment.getEnvironment();
        } catch (LinkageError | RuntimeException error) {
            throw new EdgeException(
                    EdgeException.Code.UNSUPPORTED,
                    where + ": found no onnxruntime, expected its library in the app; add the "
                            + "dependency com.microsoft.onnxruntime:onnxruntime-android",
                    error);
        }
    }

    Set<String> inputNames() {
        return session.getInputNames();
    }

    Set<String> outputNames() {
        return session.getOutputNames();
    }

    /** Returns a view of a tensor for onnxruntime; direct memory is shared. */
    OnnxTensor view(Tensor tensor) {
        try {
            return OnnxTensor.createTensor(
                    environment, tensor.buffer(), tensor.shape(), type(tensor.getDtype()));
        } catch (OrtException error) {
            throw failed(where + ": onnxruntime cannot take " + tensor, error);
        }
    }

    /** Runs the graph; returns copies of the outputs in the order asked for. */
    Map<String, Tensor> run(Map<String, Tensor> feeds, List<String> outputs) {
        Map<String, OnnxTensor> views = new LinkedHashMap<>();
        lock.readLock().lock();
        try {
            checkOpen();
            for (Map.Entry<String, Tensor> feed : feeds.entrySet()) {
                views.put(feed.getKey(), view(feed.getValue()));
            }
            try (OrtSession.Result result = session.run(views, new LinkedHashSet<>(outputs))) {
                return copies(result);
            }
        } catch (OrtException error) {
            throw failed(where + ": the run failed", error);
        } finally {
            close(views.values());
            lock.readLock().unlock();
        }
    }

    /** Runs the graph on memory that the caller holds; outputs are written where they are bound. */
    void run(Map<String, OnnxTensor> inputs, Map<String, OnnxTensor> outputs) {
        lock.readLock().lock();
        try {
            checkOpen();
            Set<String> none = Collections.emptySet();
            session.run(inputs, none, outputs).close(); // frees nothing that was bound
        } catch (OrtException error) {
            throw failed("generation: the run failed", error);
        } finally {
            lock.readLock().unlock();
        }
    }

    void checkOpen() {
        if (closed) {
            throw new EdgeException(
                    EdgeException.Code.CLOSED, where + ": the runner is closed; load it again");
        }
    }

    static void close(Iterable<OnnxTensor> views) {
        for (OnnxTensor view : views) {
            view.close();
        }
    }

    /** Waits for runs to end and frees the session; a second call does nothing. */
    @Override
    public void close() {
        lock.writeLock().lock();
        try {
            if (!closed) {
                closed = true;
                session.close();
            }
        } catch (OrtException error) {
            throw failed(where + ": onnxruntime cannot close it", error);
        } finally {
            lock.writeLock().unlock();
        }
    }

    private Map<String, Tensor> copies(OrtSession.Result result) {
        Map<String, Tensor> found = new LinkedHashMap<>();
        for (Map.Entry<String, OnnxValue> entry : result) {
            OnnxTensor value = (OnnxTensor) entry.getValue();
            ByteBuffer copy = value.getByteBuffer().order(ByteOrder.nativeOrder());
            DType dtype = dtype(entry.getKey(), value.getInfo().type);
            found.put(entry.getKey(), Tensor.of(dtype, copy, value.getInfo().getShape()));
        }
        return found;
    }

    private static OnnxJavaType type(DType dtype) {
        switch (dtype) {
            case FLOAT32:
                return OnnxJavaType.FLOAT;
            case FLOAT64:
                return OnnxJavaType.DOUBLE;
            default:
                return OnnxJavaType.valueOf(dtype.name());
        }
    }

    private static DType dtype(String where, OnnxJavaType type) {
        switch (type) {
            case FLOAT:
                return DType.FLOAT32;
            case DOUBLE:
                return DType.FLOAT64;
            case STRING:
            case UNKNOWN:
                return DType.named(where, type.name().toLowerCase(Locale.ROOT));
            default:
                return DType.valueOf(type.name());
        }
    }

    private static EdgeException failed(String doing, OrtException error) {
        String reason = EdgeException.firstLine(error);
        boolean full = reason.contains("bad_alloc") || reason.contains("allocate memory");
        return new EdgeException(
                full ? EdgeException.Code.OUT_OF_MEMORY : EdgeException.Code.RUNTIME,
                doing + ": " + reason,
                error);
    }
}
