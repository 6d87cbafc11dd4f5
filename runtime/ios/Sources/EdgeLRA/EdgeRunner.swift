import Foundation

/// A loaded bundle: its session, its adapters and its inputs, checked before each run.
///
/// Calls may overlap, and none of them blocks the caller's thread. `close` lets the runs that have
/// begun end; later calls throw `.closed`. Every mistake is an `EdgeError` of one line.
public actor EdgeRunner {
    /// What the manifest says.
    public nonisolated let description: Description
    /// The adapter of a call that names none; nil where the factors are off.
    public private(set) var defaultAdapter: String?
    private nonisolated let native: Native
    private var closed = false

    private init(_ native: Native, _ description: Description) {
        self.native = native
        self.description = description
        defaultAdapter = description.defaultAdapter
    }

    /// Opens a bundle for the CPU. onnxruntime maps the weights from the folder, which must stay.
    ///
    /// - Parameters:
    ///   - folder: the bundle, `NAME.edge`, in the app or where it was downloaded to.
    ///   - options: threads, when files are hashed, and so on.
    /// - Throws: `EdgeError` `.notFound`, `.damaged`, `.unsupported`, `.outOfMemory`, `.runtime`,
    ///   `.invalidArgument`.
    public static func load(
        _ folder: URL, options: LoadOptions = LoadOptions()
    ) async throws -> EdgeRunner {
        try await Background.run {
            let native = try Native.open(folder, options)
            do {
                return EdgeRunner(native, try native.describe())
            } catch {
                try? native.close()
                throw error
            }
        }
    }

    deinit {
        if !closed { try? native.close() }
    }

    /// The token inputs that `run` takes.
    public nonisolated var inputNames: [String] { description.inputs.map(\.name) }

    /// The outputs that `run` gives.
    public nonisolated var outputNames: [String] { description.outputs.map(\.name) }

    /// The adapters one can choose; none in a merged bundle.
    public nonisolated var adapters: [String] { description.adapters }

    /// Sets the default adapter; nil turns the factors off. Reads no file.
    ///
    /// - Throws: `EdgeError` `.invalidArgument`, which lists the adapters.
    public func use(_ adapter: String?) throws {
        try native.setAdapter(adapter)
        defaultAdapter = adapter
    }

    /// Runs one batch.
    ///
    /// - Parameters:
    ///   - inputs: tensors (batch, sequence) by input name; integers of any width serve as ids, and
    ///     missing `token_type_ids` are zeros. A decoder reads whole prompts.
    ///   - adapter: which adapter.
    /// - Returns: the outputs by name.
    /// - Throws: `EdgeError` `.invalidArgument`, `.foreignAdapter`, `.damaged`, `.runtime`,
    ///   `.outOfMemory`, `.closed`.
    public func run(
        _ inputs: [String: Tensor], adapter: AdapterChoice = .byDefault
    ) async throws -> [String: Tensor] {
        let native = self.native
        return try await Background.run { try native.run(inputs, adapter) }
    }

    /// Labels texts, each run at its own length.
    ///
    /// - Parameters:
    ///   - texts: the token ids of each, special tokens included; the tokenizer is the app's.
    ///   - adapter: which adapter.
    /// - Returns: one for each text.
    /// - Throws: as `run`; `EdgeError` `.unsupported` where the task is another.
    public func classify(
        _ texts: [[Int64]], adapter: AdapterChoice = .byDefault
    ) async throws -> [Classification] {
        guard description.task == "sequence-classification" else {
            throw EdgeError(
                .unsupported,
                "classify: the bundle's task is \(description.task), expected "
                    + "sequence-classification")
        }
        let chosen = resolved(adapter)  // of this moment, for the outputs and for their labels
        var found: [Classification] = []
        for text in texts {
            let shape = [1, text.count]
            let ones = [Int64](repeating: 1, count: text.count)
            let given = [
                "input_ids": try Tensor(text, shape: shape),
                "attention_mask": try Tensor(ones, shape: shape),
            ]
            let outputs = try await run(
                given.filter { inputNames.contains($0.key) }, adapter: chosen)
            found.append(
                try Classification(
                    logits: outputs["logits"]?.values(as: Float.self) ?? [],
                    labels: (description.labels[chosen.name ?? ""] ?? nil),
                    problemType: description.problemType))
        }
        return found
    }

    private func resolved(_ adapter: AdapterChoice) -> AdapterChoice {
        guard adapter == .byDefault else { return adapter }
        return defaultAdapter.map(AdapterChoice.named) ?? .off
    }

    /// Goes on from a prompt with the likeliest token, again and again. To cancel the task ends it
    /// with what there is.
    ///
    /// - Throws: as `run`; `EdgeError` `.invalidArgument` where prompt and tokens do not fit into
    ///   the context, `.unsupported` where the bundle generates nothing.
    public func generate(
        _ prompt: [Int64], options: GenerateOptions = GenerateOptions()
    ) async throws -> Generation {
        let native = self.native
        let cancelled = Flag()
        return try await withTaskCancellationHandler {
            try await Background.run { try native.generate(prompt, options, cancelled) { _ in } }
        } onCancel: {
            cancelled.set()
        }
    }

    /// Goes on from a prompt with at most so many tokens of the default adapter.
    public func generate(_ prompt: [Int64], maxTokens: Int) async throws -> Generation {
        try await generate(prompt, options: GenerateOptions(maxTokens: maxTokens))
    }

    /// Gives the tokens behind a prompt as they come. Whoever stops reading ends the generation.
    public nonisolated func stream(
        _ prompt: [Int64], options: GenerateOptions = GenerateOptions()
    ) -> AsyncThrowingStream<Int64, Error> {
        let native = self.native
        return AsyncThrowingStream { continuation in
            let cancelled = Flag()
            continuation.onTermination = { _ in cancelled.set() }
            Task {
                do {
                    _ = try await Background.run {
                        try native.generate(prompt, options, cancelled) { token in
                            continuation.yield(token)
                        }
                    }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
        }
    }

    /// Runs the golden vectors of the bundle and compares, for a phone's own kernels.
    ///
    /// - Throws: `EdgeError` `.gateFailed` where answers are further from the float model than
    ///   allowed; as `run`.
    public func checkGolden() async throws -> GoldenReport {
        let native = self.native
        return try await Background.run { try native.verifyGolden() }
    }

    /// Times runs of one shape: 2 to warm up, then as many as the median needs within 5 seconds.
    public func profile(batch: Int = 1, tokens: Int = 128) async throws -> Profile {
        let native = self.native
        return try await Background.run { try native.profile(batch: batch, tokens: tokens) }
    }

    /// Frees the session. A second call does nothing.
    public func close() async throws {
        guard !closed else { return }
        closed = true
        let native = self.native
        try await Background.run { try native.close() }
    }
}
