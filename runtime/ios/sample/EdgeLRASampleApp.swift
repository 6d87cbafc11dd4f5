import SwiftUI

@main
struct EdgeLRASampleApp: App {
    var body: some Scene {
        WindowGroup { ContentView() }
    }
}
