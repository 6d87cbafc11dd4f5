import CEdgeLRA
import Foundation

/// What the C library gives back to a callback: whom to tell of a token, and whether to go on.
private final class Listener {
    let onToken: @Sendable (Int64) -> Void
    let cancelled: Flag

    init(_ onToken: @escaping @Sendable (Int64) -> Void, _ cancelled: Flag) {
        self.onToken = onToken
        self.cancelled = cancelled
    }
}

extension Native {
    /// Goes on from a prompt until it stops or the flag is set; tells of each token as it comes.
    func generate(
        _ prompt: [Int64],
        _ options: GenerateOptions,
        _ cancelled: Flag,
        _ onToken: @escaping @Sendable (Int64) -> Void
    ) throws -> Generation {
        guard options.maxTokens > 0 else {
            throw EdgeError(
                .invalidArgument, "max_tokens: found \(options.maxTokens), expected at least 1")
        }
        let listener = Unmanaged.passRetained(Listener(onToken, cancelled))
        defer { listener.release() }
        var native = edge_lra_generate_options()
        native.struct_size = MemoryLayout<edge_lra_generate_options>.stride
        native.choice = options.adapter.code
        native.context = listener.toOpaque()
        native.on_token = { token, context in
            let told = Unmanaged<Listener>.fromOpaque(context!).takeUnretainedValue()
            told.onToken(token)
            return told.cancelled.isSet ? 1 : 0
        }
        return try withOptionalCString(options.adapter.name) { name in
            native.adapter = name
            // An empty array may have no address, and none means the model's own stop tokens.
            let stops = options.stopTokens.map { $0 + [0] }
            guard let stops else { return try generate(prompt, options.maxTokens, &native) }
            return try stops.withUnsafeBufferPointer { pointer in
                native.stop_tokens = pointer.baseAddress
                native.stop_count = pointer.count - 1
                return try generate(prompt, options.maxTokens, &native)
            }
        }
    }

    private func generate(
        _ prompt: [Int64], _ maxTokens: Int, _ options: inout edge_lra_generate_options
    ) throws -> Generation {
        var found = edge_lra_generation()
        found.struct_size = MemoryLayout<edge_lra_generation>.stride
        var tokens = [Int64](repeating: 0, count: maxTokens)
        try EdgeError.check(
            edge_lra_generate(
                runner, prompt, prompt.count, maxTokens, &options, &tokens, &found))
        return Generation(
            tokens: Array(tokens.prefix(found.count)),
            stoppedBy: Generation.StoppedBy(found.stopped_by),
            prefillS: found.prefill_s,
            decodeS: found.decode_s)
    }
}
