import Foundation

/// What a bundle's manifest says that an app needs to know.
public struct Description: Sendable, Decodable {
    /// An input or output of the graph.
    public struct Node: Sendable, Decodable {
        public let name: String
        /// As numpy names it.
        public let dtype: String
        public let shape: [Axis]
    }

    /// A size, or a name that stands for any.
    public enum Axis: Sendable, Decodable, Equatable {
        case size(Int)
        case named(String)

        public init(from decoder: Decoder) throws {
            let value = try decoder.singleValueContainer()
            if let size = try? value.decode(Int.self) {
                self = .size(size)
            } else {
                self = .named(try value.decode(String.self))
            }
        }
    }

    /// What the outputs mean, such as `sequence-classification`.
    public let task: String
    /// What a classification's logits mean, such as `regression`.
    public let problemType: String?
    public let inputs: [Node]
    public let outputs: [Node]
    public let adapters: [String]
    public let defaultAdapter: String?
    /// Names of the outputs by adapter; by "" those without one.
    public let labels: [String: [String]?]
    /// The version of onnxruntime that runs it.
    public let onnxruntime: String

    // By hand: a decoder that converts snake_case would convert the adapters' names, too.
    private enum CodingKeys: String, CodingKey {
        case task, inputs, outputs, adapters, labels, onnxruntime
        case problemType = "problem_type"
        case defaultAdapter = "default_adapter"
    }
}
