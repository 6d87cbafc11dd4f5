import CEdgeLRA
import Foundation

/// A mistake that the caller can fix, told in one line: where, what was found, what was expected
/// and the remedy.
public struct EdgeError: Error, Sendable, Equatable, LocalizedError {
    /// The kind of a mistake; the same names in every runner.
    public enum Code: String, Sendable {
        /// An argument of this call: an input's name, type or shape, an option, an adapter's name.
        case invalidArgument
        /// The bundle, one of its files or onnxruntime is not there.
        case notFound
        /// A file has other bytes than were exported, or is malformed.
        case damaged
        /// A newer bundle format, an onnxruntime that is too old, another kind of model.
        case unsupported
        /// The adapter was made for another base.
        case foreignAdapter
        /// onnxruntime failed.
        case runtime
        case outOfMemory
        /// The runner was closed.
        case closed
        /// Answers are further from the float model than allowed.
        case gateFailed
        /// A code of a newer library.
        case unknown
    }

    public let code: Code
    public let message: String

    public var errorDescription: String? { message }

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// Throws what the last call on this thread has to say, unless it went well.
    static func check(_ code: edge_lra_code) throws {
        guard code != EDGE_LRA_OK else { return }
        throw EdgeError(Code(code), String(cString: edge_lra_last_error()))
    }
}

extension EdgeError.Code {
    init(_ code: edge_lra_code) {
        switch code {
        case EDGE_LRA_INVALID_ARGUMENT: self = .invalidArgument
        case EDGE_LRA_NOT_FOUND: self = .notFound
        case EDGE_LRA_DAMAGED: self = .damaged
        case EDGE_LRA_UNSUPPORTED: self = .unsupported
        case EDGE_LRA_FOREIGN_ADAPTER: self = .foreignAdapter
        case EDGE_LRA_RUNTIME: self = .runtime
        case EDGE_LRA_OUT_OF_MEMORY: self = .outOfMemory
        case EDGE_LRA_CLOSED: self = .closed
        case EDGE_LRA_GATE_FAILED: self = .gateFailed
        default: self = .unknown
        }
    }
}
