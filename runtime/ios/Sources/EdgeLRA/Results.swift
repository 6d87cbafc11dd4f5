import CEdgeLRA
import Foundation

/// What was generated behind one prompt.
public struct Generation: Sendable, Equatable {
    /// Why it ended.
    public enum StoppedBy: Sendable {
        case stopToken, maxTokens, cancelled
    }

    /// All new tokens, the stop token among them.
    public let tokens: [Int64]
    public let stoppedBy: StoppedBy
    /// Seconds to read the prompt.
    public let prefillS: Double
    /// Seconds from then on.
    public let decodeS: Double

    /// Tokens a second behind the first, which the prompt's run gives.
    public var tokensPerS: Double {
        decodeS > 0 ? Double(tokens.count - 1) / decodeS : 0
    }
}

extension Generation.StoppedBy {
    init(_ code: edge_lra_stopped_by) {
        switch code {
        case EDGE_LRA_STOP_TOKEN: self = .stopToken
        case EDGE_LRA_CALLBACK: self = .cancelled
        default: self = .maxTokens
        }
    }
}

/// How far answers to the golden vectors are from those recorded at export.
public struct GoldenReport: Sendable, Equatable {
    /// 0 where the bundle was exported without verification.
    public let cases: Int
    /// From the outputs recorded at export.
    public let maxAbsError: Double
    /// From the float model's outputs.
    public let maxAbsErrorFloat: Double
    public let allowedErrorFloat: Double
    /// Best labels that the float model chooses by more than the allowed error.
    public let decided: Int
    /// Of them, those that were chosen here.
    public let agreed: Int
}

/// Latencies of one shape, in milliseconds.
public struct Profile: Sendable, Equatable, Decodable {
    public let runs: Int
    public let p50Ms: Double
    public let p90Ms: Double
    public let p95Ms: Double
    public let p99Ms: Double
    public let minMs: Double
    public let meanMs: Double
}

/// The best label of a text, its score, and the scores of all labels in their order.
public struct Classification: Sendable, Equatable {
    /// A label and how much speaks for it: a probability, or a regression's value.
    public struct Score: Sendable, Equatable {
        public let label: String
        public let score: Double
    }

    public let label: String
    public let score: Double
    public let scores: [Score]

    /// Scores one row of logits. As in transformers' losses, a single logit without a problem type
    /// is a regression.
    ///
    /// - Throws: `EdgeError` `.damaged` where the labels are not one an output.
    init(logits: [Float], labels: [String]?, problemType: String?) throws {
        let given = labels ?? []
        let names = given.isEmpty ? logits.indices.map { "LABEL_\($0)" } : given
        guard names.count == logits.count, !logits.isEmpty else {
            throw EdgeError(
                .damaged, "labels: found \(names.count), expected \(logits.count), one an output")
        }
        let values = Classification.values(logits.map { Double($0) }, problemType)
        // The first of equal ones, as in every runner.
        let best = values.indices.reduce(0) { values[$1] > values[$0] ? $1 : $0 }
        label = names[best]
        score = values[best]
        scores = zip(names, values).map { Score(label: $0, score: $1) }
    }

    private static func values(_ logits: [Double], _ problemType: String?) -> [Double] {
        switch problemType {
        case "regression": return logits
        case nil where logits.count == 1: return logits
        case "multi_label_classification":
            return logits.map { 0.5 * (1 + tanh(0.5 * $0)) }  // the sigmoid, without overflow
        default:
            let most = logits.max() ?? 0
            let powers = logits.map { exp($0 - most) }
            let sum = powers.reduce(0, +)
            return powers.map { $0 / sum }
        }
    }
}
