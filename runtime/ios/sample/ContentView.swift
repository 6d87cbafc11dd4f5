import SwiftUI

/// Type a text, see its label; choose an adapter.
struct ContentView: View {
    @StateObject private var model = SentimentModel()
    @State private var text = "A fine film, warm and funny."

    var body: some View {
        NavigationView {
            Form {
                Section("Text") {
                    TextField("Text", text: $text)
                    Button("Classify") { Task { await model.classify(text) } }
                        .disabled(!model.isReady)
                }
                if !model.adapters.isEmpty {
                    Picker("Adapter", selection: $model.adapter) {
                        ForEach(model.adapters, id: \.self) { Text($0) }
                    }
                    .pickerStyle(.segmented)
                }
                Section("Answer") { Text(model.answer) }
            }
            .navigationTitle("edge-lra")
        }
        .navigationViewStyle(.stack)
        .task { await model.load() }
    }
}
