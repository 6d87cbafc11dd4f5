import XCTest

@testable import EdgeLRA

final class ResultsTests: XCTestCase {
    private let labels = ["bad", "good"]

    func testLabelsAreScoredByTheProblem() throws {
        let soft = try Classification(logits: [0, 1], labels: labels, problemType: nil)
        XCTAssertEqual(soft.label, "good")
        XCTAssertEqual(soft.score, 1 / (1 + exp(-1)), accuracy: 1e-12)
        let several = try Classification(
            logits: [0, -1000], labels: labels, problemType: "multi_label_classification")
        XCTAssertEqual(several.scores.map(\.score), [0.5, 0])
        let value = try Classification(logits: [-3], labels: nil, problemType: nil)
        XCTAssertEqual(value.scores, [Classification.Score(label: "LABEL_0", score: -3)])
        let large = try Classification(logits: [1000, 1000], labels: labels, problemType: nil)
        XCTAssertEqual(large.label, "bad")
        XCTAssertEqual(large.score, 0.5)
    }

    func testLabelsOfAnotherCountAreRefused() {
        XCTAssertThrowsError(
            try Classification(logits: [1, 2, 3], labels: labels, problemType: nil)
        ) { XCTAssertEqual(($0 as? EdgeError)?.code, .damaged) }
    }

    func testTensorsKeepTheirValues() throws {
        let ids = try Tensor([101, 2986, 102], shape: [1, 3])
        XCTAssertEqual(ids.dtype, .int64)
        XCTAssertEqual(try ids.values(as: Int64.self), [101, 2986, 102])
        XCTAssertThrowsError(try ids.values(as: Float.self)) {
            XCTAssertEqual(
                ($0 as? EdgeError)?.message, "tensor: found int64, expected float32")
        }
        let empty = try Tensor([Float](), shape: [384, 0])
        XCTAssertEqual(try empty.values(as: Float.self), [])
    }

    func testShapesThatAreNotTheValuesAreRefused() {
        for shape in [[2, 2], [-1, -3], [Int.max, 4], []] {
            XCTAssertThrowsError(try Tensor([1, 2, 3], shape: shape), "\(shape)")
        }
    }

    func testTypesGoToTheLibraryAndBack() {
        let all: [DType] = [
            .float32, .float64, .float16, .bfloat16, .int8, .int16, .int32, .int64,
            .uint8, .uint16, .uint32, .uint64, .bool,
        ]
        XCTAssertEqual(all.map { DType($0.code) }, all)
    }

    func testADescriptionIsRead() throws {
        let json = """
            {"task": "sequence-classification", "problem_type": null, "adapters": ["my_one"],
             "inputs": [{"name": "input_ids", "dtype": "int64", "shape": ["batch", 3]}],
             "outputs": [], "default_adapter": "my_one", "onnxruntime": "1.23.0",
             "labels": {"": null, "my_one": ["bad", "good"]}}
            """
        let found = try JSONDecoder().decode(Description.self, from: Data(json.utf8))
        XCTAssertEqual(found.inputs[0].shape, [.named("batch"), .size(3)])
        XCTAssertEqual(found.defaultAdapter, "my_one")
        XCTAssertEqual(found.labels["my_one"] ?? nil, labels)
        XCTAssertNil(found.labels[""] ?? nil)
    }
}
