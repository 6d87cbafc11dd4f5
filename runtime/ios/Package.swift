// swift-tools-version: 5.9
import PackageDescription

// `cpp` holds the C++ runner, `third_party` the headers that it needs, `onnxruntime.xcframework`
// onnxruntime: README.md says where each comes from.
let package = Package(
    name: "EdgeLRA",
    platforms: [.iOS("15.1"), .macOS("13.3")],
    products: [
        .library(name: "EdgeLRA", targets: ["EdgeLRA"])
    ],
    targets: [
        .target(name: "EdgeLRA", dependencies: ["CEdgeLRA"]),
        .target(name: "CEdgeLRA", dependencies: ["EdgeLRACore", "onnxruntime"]),
        .target(
            name: "EdgeLRACore",
            path: "cpp",
            sources: ["src"],
            publicHeadersPath: "include",
            cxxSettings: [.headerSearchPath("src"), .headerSearchPath("../third_party")]
        ),
        .binaryTarget(name: "onnxruntime", path: "onnxruntime.xcframework"),
        .testTarget(name: "EdgeLRATests", dependencies: ["EdgeLRA"]),
    ],
    cxxLanguageStandard: .cxx17
)
