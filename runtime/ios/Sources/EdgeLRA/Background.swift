import Foundation

/// Where the C library's calls run: they block, and Swift's own threads must not be blocked.
enum Background {
    private static let queue = DispatchQueue(
        label: "org.edgelra", qos: .userInitiated, attributes: .concurrent)

    /// Runs work on the queue. A call and the question for its error stay on one thread.
    static func run<Result: Sendable>(
        _ work: @escaping @Sendable () throws -> Result
    ) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Swift.Result(catching: work)) }
        }
    }
}

/// A flag that one thread sets and another reads.
final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var value = false

    var isSet: Bool {
        lock.lock()
        defer { lock.unlock() }
        return value
    }

    func set() {
        lock.lock()
        defer { lock.unlock() }
        value = true
    }
}
