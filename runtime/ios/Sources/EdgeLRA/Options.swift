import Foundation

/// Which adapter a call uses.
public enum AdapterChoice: Sendable, Equatable, ExpressibleByStringLiteral {
    /// The one of `use`; at first the manifest's.
    case byDefault
    /// Factors off.
    case off
    case named(String)

    public init(stringLiteral value: String) { self = .named(value) }
}

/// When the files are compared with the hashes in the manifest.
public enum Verify: Sendable {
    /// At the first load; afterwards sizes and times against a stamp.
    case once
    case always
    /// For a bundle inside the app, which its signature protects.
    case never
}

/// How a bundle is opened.
public struct LoadOptions: Sendable {
    /// Threads within an operator, 1 to 1024; nil leaves it to onnxruntime. On a phone, as many as
    /// it has fast cores.
    public var threads: Int?
    public var verify: Verify
    /// Where `.once` remembers its checks; nil for the user's cache folder.
    public var stampFolder: URL?
    /// The most tokens of a language model's prompt and text; nil for the model's own.
    public var context: Int?

    public init(
        threads: Int? = nil, verify: Verify = .once, stampFolder: URL? = nil, context: Int? = nil
    ) {
        self.threads = threads
        self.verify = verify
        self.stampFolder = stampFolder
        self.context = context
    }
}

/// What is generated behind a prompt.
public struct GenerateOptions: Sendable {
    /// The most new tokens; with the prompt they must fit into the context.
    public var maxTokens: Int
    public var adapter: AdapterChoice
    /// Tokens that end the text; nil for the model's own, empty for none.
    public var stopTokens: [Int64]?

    public init(
        maxTokens: Int = 256, adapter: AdapterChoice = .byDefault, stopTokens: [Int64]? = nil
    ) {
        self.maxTokens = maxTokens
        self.adapter = adapter
        self.stopTokens = stopTokens
    }
}
