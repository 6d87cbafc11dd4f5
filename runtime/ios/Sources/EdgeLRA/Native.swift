import CEdgeLRA
import Foundation

/// The C interface, a call a method, without state: it is safe from any thread. Everything blocks.
struct Native: Sendable {
    let runner: edge_lra_runner

    static func open(_ folder: URL, _ options: LoadOptions) throws -> Native {
        _ = edge_lra_onnxruntime_entry()
        guard edge_lra_abi_version() == UInt32(EDGE_LRA_ABI_VERSION) else {
            throw EdgeError(
                .unsupported,
                "EdgeLRA: found a library of ABI \(edge_lra_abi_version()), expected "
                    + "\(EDGE_LRA_ABI_VERSION); build both of one release")
        }
        var native = edge_lra_open_options()
        native.struct_size = MemoryLayout<edge_lra_open_options>.stride
        native.threads = try number(options.threads, "threads")
        native.context = try number(options.context, "context")
        switch options.verify {
        case .once: native.verify = EDGE_LRA_VERIFY_ONCE
        case .always: native.verify = EDGE_LRA_VERIFY_ALWAYS
        case .never: native.verify = EDGE_LRA_VERIFY_NEVER
        }
        var runner: edge_lra_runner = 0
        try withOptionalCString(options.stampFolder?.path) { stamps in
            native.stamp_folder = stamps
            try EdgeError.check(edge_lra_open(folder.path, &native, &runner))
        }
        return Native(runner: runner)
    }

    /// Returns an option as the C interface takes it, where 0 means "not given".
    private static func number(_ value: Int?, _ name: String) throws -> Int32 {
        guard let value else { return 0 }
        guard value > 0, let found = Int32(exactly: value) else {
            throw EdgeError(.invalidArgument, "\(name): found \(value), expected at least 1")
        }
        return found
    }

    func close() throws {
        try EdgeError.check(edge_lra_close(runner))
    }

    func setAdapter(_ name: String?) throws {
        try withOptionalCString(name) { try EdgeError.check(edge_lra_set_adapter(runner, $0)) }
    }

    func describe() throws -> Description {
        var json: UnsafeMutablePointer<CChar>?
        try EdgeError.check(edge_lra_describe(runner, &json))
        return try JSONDecoder().decode(Description.self, from: Native.taken(json))
    }

    func run(_ inputs: [String: Tensor], _ adapter: AdapterChoice) throws -> [String: Tensor] {
        let arrays = TensorList(inputs)
        return try withExtendedLifetime(arrays) {
            var options = edge_lra_run_options()
            options.struct_size = MemoryLayout<edge_lra_run_options>.stride
            options.choice = adapter.code
            var outputs: edge_lra_outputs = 0
            try withOptionalCString(adapter.name) { name in
                options.adapter = name
                try EdgeError.check(
                    edge_lra_run(runner, arrays.list, arrays.count, &options, &outputs))
            }
            defer { _ = edge_lra_outputs_close(outputs) }
            return try Native.copies(outputs)
        }
    }

    private static func copies(_ outputs: edge_lra_outputs) throws -> [String: Tensor] {
        var found: [String: Tensor] = [:]
        for place in 0..<edge_lra_outputs_count(outputs) {
            var tensor = edge_lra_tensor()
            try EdgeError.check(edge_lra_outputs_get(outputs, place, &tensor))
            let name = String(cString: tensor.name)
            guard let dtype = DType(tensor.dtype) else {
                throw EdgeError(.unsupported, "\(name): found a type that this package lacks")
            }
            let axes = UnsafeBufferPointer(start: tensor.shape, count: tensor.rank)
            let size = tensor.size
            let data = size == 0 ? Data() : Data(bytes: tensor.data, count: size)
            found[name] = try Tensor(dtype: dtype, shape: axes.map { Int($0) }, data: data)
        }
        return found
    }

    func verifyGolden() throws -> GoldenReport {
        var golden = edge_lra_golden()
        golden.struct_size = MemoryLayout<edge_lra_golden>.stride
        try EdgeError.check(edge_lra_verify_golden(runner, &golden))
        return GoldenReport(
            cases: golden.cases,
            maxAbsError: golden.max_abs_error,
            maxAbsErrorFloat: golden.max_abs_error_float,
            allowedErrorFloat: golden.allowed_error_float,
            decided: golden.decided,
            agreed: golden.agreed)
    }

    func profile(batch: Int, tokens: Int) throws -> Profile {
        var options = edge_lra_profile_options()
        options.struct_size = MemoryLayout<edge_lra_profile_options>.stride
        options.batch = Int64(batch)
        options.tokens = Int64(tokens)
        var json: UnsafeMutablePointer<CChar>?
        try EdgeError.check(edge_lra_profile(runner, &options, &json))
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Answer.self, from: Native.taken(json)).summary
    }

    private struct Answer: Decodable {
        let summary: Profile
    }

    /// Copies a text of the library's and frees it.
    private static func taken(_ text: UnsafeMutablePointer<CChar>?) -> Data {
        defer { edge_lra_free_text(text) }
        return text.map { Data(String(cString: $0).utf8) } ?? Data()
    }
}

extension AdapterChoice {
    var code: edge_lra_adapter_choice {
        switch self {
        case .byDefault: return EDGE_LRA_ADAPTER_DEFAULT
        case .off: return EDGE_LRA_ADAPTER_NONE
        case .named: return EDGE_LRA_ADAPTER_NAMED
        }
    }

    var name: String? {
        if case .named(let name) = self { return name }
        return nil
    }
}

func withOptionalCString<Result>(
    _ text: String?, _ body: (UnsafePointer<CChar>?) throws -> Result
) rethrows -> Result {
    guard let text else { return try body(nil) }
    return try text.withCString(body)
}
