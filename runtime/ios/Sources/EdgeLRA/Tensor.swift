import CEdgeLRA
import Foundation

/// The type of a tensor's values, as numpy and the manifest name it.
public enum DType: String, Sendable {
    case float32, float64, float16, bfloat16
    case int8, int16, int32, int64
    case uint8, uint16, uint32, uint64
    case bool

    /// Bytes of one value.
    public var width: Int {
        switch self {
        case .int8, .uint8, .bool: return 1
        case .float16, .bfloat16, .int16, .uint16: return 2
        case .float32, .int32, .uint32: return 4
        case .float64, .int64, .uint64: return 8
        }
    }

    private static let native: [(DType, edge_lra_dtype)] = [
        (.float32, EDGE_LRA_FLOAT32), (.float64, EDGE_LRA_FLOAT64),
        (.float16, EDGE_LRA_FLOAT16), (.bfloat16, EDGE_LRA_BFLOAT16),
        (.int8, EDGE_LRA_INT8), (.int16, EDGE_LRA_INT16),
        (.int32, EDGE_LRA_INT32), (.int64, EDGE_LRA_INT64),
        (.uint8, EDGE_LRA_UINT8), (.uint16, EDGE_LRA_UINT16),
        (.uint32, EDGE_LRA_UINT32), (.uint64, EDGE_LRA_UINT64),
        (.bool, EDGE_LRA_BOOL),
    ]

    var code: edge_lra_dtype {
        DType.native.first { $0.0 == self }!.1  // the table above has every case
    }

    init?(_ code: edge_lra_dtype) {
        guard let found = DType.native.first(where: { $0.1 == code }) else { return nil }
        self = found.0
    }
}

/// A type whose arrays become tensors.
public protocol TensorElement: Sendable {
    static var dtype: DType { get }
}

extension Float: TensorElement { public static var dtype: DType { .float32 } }
extension Double: TensorElement { public static var dtype: DType { .float64 } }
extension Int64: TensorElement { public static var dtype: DType { .int64 } }
/// Of 64 bits on every device that this package supports.
extension Int: TensorElement { public static var dtype: DType { .int64 } }
extension Int32: TensorElement { public static var dtype: DType { .int32 } }
extension UInt8: TensorElement { public static var dtype: DType { .uint8 } }

/// A dense array in row-major order.
public struct Tensor: Sendable, Equatable {
    public let dtype: DType
    /// The sizes of the axes.
    public let shape: [Int]
    /// The values, in the machine's byte order.
    public let data: Data

    /// Takes values by their bytes.
    ///
    /// - Throws: `EdgeError` `.invalidArgument` unless the size is the shape's.
    public init(dtype: DType, shape: [Int], data: Data) throws {
        guard let size = Tensor.size(shape, dtype.width), size == data.count else {
            throw EdgeError(
                .invalidArgument,
                "tensor: found \(data.count) bytes, expected those of \(dtype.rawValue)\(shape)")
        }
        self.dtype = dtype
        self.shape = shape
        self.data = data
    }

    /// Takes values such as token ids: `Tensor([101, 2986, 102], shape: [1, 3])`.
    ///
    /// - Throws: `EdgeError` `.invalidArgument` unless there are as many as the shape says.
    public init<Element: TensorElement>(_ values: [Element], shape: [Int]) throws {
        try self.init(
            dtype: Element.dtype,
            shape: shape,
            data: values.withUnsafeBytes { Data($0) })
    }

    /// Copies the values out.
    ///
    /// - Throws: `EdgeError` `.invalidArgument` where the tensor has another type.
    public func values<Element: TensorElement>(as type: Element.Type) throws -> [Element] {
        guard dtype == Element.dtype else {
            throw EdgeError(
                .invalidArgument,
                "tensor: found \(dtype.rawValue), expected \(Element.dtype.rawValue)")
        }
        return [Element](unsafeUninitializedCapacity: data.count / dtype.width) { buffer, count in
            count = data.copyBytes(to: UnsafeMutableRawBufferPointer(buffer)) / dtype.width
        }
    }

    /// Returns the bytes of a shape; nil where a size is negative or the product overflows.
    static func size(_ shape: [Int], _ width: Int) -> Int? {
        shape.reduce(Optional(width)) { product, axis in
            guard let product, axis >= 0 else { return nil }
            let (size, overflow) = product.multipliedReportingOverflow(by: axis)
            return overflow ? nil : size
        }
    }
}
