import EdgeLRA
import Foundation

/// The bundle `sentiment.edge` of the app, and what it last answered.
@MainActor
final class SentimentModel: ObservableObject {
    @Published private(set) var answer = "Loading…"
    @Published private(set) var adapters: [String] = []
    @Published private(set) var isReady = false
    @Published var adapter = ""
    private var runner: EdgeRunner?
    private var tokenizer: WordPiece?

    func load() async {
        await attempt {
            guard
                let folder = Bundle.main.url(forResource: "sentiment", withExtension: "edge")
            else { return "sentiment.edge: found none, expected it among the app's resources" }
            // The app's signature protects what is inside of it.
            let options = LoadOptions(threads: 2, verify: .never)
            let loaded = try await EdgeRunner.load(folder, options: options)
            tokenizer = try WordPiece(file: folder.appendingPathComponent("tokenizer.json"))
            adapters = loaded.adapters
            adapter = await loaded.defaultAdapter ?? loaded.adapters.first ?? ""
            runner = loaded
            isReady = true
            return "Ready"
        }
    }

    func classify(_ text: String) async {
        guard let runner, let tokenizer else { return }
        let choice: AdapterChoice = adapters.isEmpty ? .byDefault : .named(adapter)
        await attempt {
            let found = try await runner.classify([tokenizer.encode(text)], adapter: choice)
            return String(format: "%@ %.1f %%", found[0].label, 100 * found[0].score)
        }
    }

    private func attempt(_ work: () async throws -> String) async {
        do {
            answer = try await work()
        } catch {
            answer = error.localizedDescription
        }
    }
}
