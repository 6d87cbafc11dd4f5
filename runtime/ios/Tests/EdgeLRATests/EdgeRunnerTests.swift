import XCTest

@testable import EdgeLRA

/// With bundles that the environment names: EDGE_LRA_FACTORED, a classifier with two adapters, and
/// EDGE_LRA_DECODER, a language model.
final class EdgeRunnerTests: XCTestCase {
    private let text: [Int64] = [101, 1037, 2986, 2143, 102]  // "a fine film"

    private func bundle(_ name: String) throws -> URL {
        let path = ProcessInfo.processInfo.environment[name]
        return URL(fileURLWithPath: try XCTUnwrap(path, "set \(name) to a bundle's folder"))
    }

    private func code(_ call: () async throws -> Void) async -> EdgeError.Code? {
        do {
            try await call()
            return nil
        } catch {
            return (error as? EdgeError)?.code
        }
    }

    func testGoldenVectorsHold() async throws {
        for name in ["EDGE_LRA_FACTORED", "EDGE_LRA_DECODER"] {
            let runner = try await EdgeRunner.load(bundle(name))
            let report = try await runner.checkGolden()
            XCTAssertGreaterThan(report.cases, 0)
            XCTAssertEqual(report.agreed, report.decided)
            try await runner.close()
        }
    }

    func testAdaptersSwitch() async throws {
        let runner = try await EdgeRunner.load(
            bundle("EDGE_LRA_FACTORED"), options: LoadOptions(threads: 1))
        let labels = try await withThrowingTaskGroup(of: String.self) { group in
            for adapter in runner.adapters {
                group.addTask { [text] in
                    try await runner.classify([text], adapter: .named(adapter))[0].label
                }
            }
            return try await group.reduce(into: Set<String>()) { $0.insert($1) }
        }
        XCTAssertEqual(labels.count, runner.adapters.count)
        try await runner.use(runner.adapters[1])
        let adapter = await runner.defaultAdapter
        XCTAssertEqual(adapter, runner.adapters[1])
    }

    func testMistakesHaveACode() async throws {
        let runner = try await EdgeRunner.load(bundle("EDGE_LRA_FACTORED"))
        let unknown = await code { try await runner.use("nobody") }
        XCTAssertEqual(unknown, .invalidArgument)
        let missing = await code { _ = try await runner.run([:]) }
        XCTAssertEqual(missing, .invalidArgument)
        let nowhere = await code {
            _ = try await EdgeRunner.load(URL(fileURLWithPath: "/nowhere"))
        }
        XCTAssertEqual(nowhere, .notFound)
        try await runner.close()
        try await runner.close()
        let closed = await code { [text] in _ = try await runner.classify([text]) }
        XCTAssertEqual(closed, .closed)
    }

    func testTheStreamGivesTheTokensAndEndsWithItsReader() async throws {
        let runner = try await EdgeRunner.load(bundle("EDGE_LRA_DECODER"))
        let options = GenerateOptions(maxTokens: 8, stopTokens: [])
        let whole = try await runner.generate([1, 2, 3], options: options)
        XCTAssertEqual(whole.tokens.count, 8)
        var streamed: [Int64] = []
        for try await token in runner.stream([1, 2, 3], options: options) {
            streamed.append(token)
        }
        XCTAssertEqual(streamed, whole.tokens)
        for try await token in runner.stream([1, 2, 3], options: options) {
            XCTAssertEqual(token, whole.tokens[0])
            break
        }
    }
}
