import CEdgeLRA
import Foundation

/// Tensors as the C interface takes them, in memory that lives as long as this object.
final class TensorList {
    let count: Int
    let list: UnsafeMutablePointer<edge_lra_tensor>
    private var owned: [UnsafeMutableRawPointer] = []

    init(_ tensors: [String: Tensor]) {
        count = tensors.count
        list = .allocate(capacity: max(1, tensors.count))
        for (place, (name, tensor)) in tensors.enumerated() {
            var native = edge_lra_tensor()
            native.name = UnsafePointer(keep(Array(name.utf8CString)))
            native.dtype = tensor.dtype.code
            native.rank = tensor.shape.count
            native.shape = UnsafePointer(keep(tensor.shape.map { Int64($0) }))
            native.data = UnsafeRawPointer(keep([UInt8](tensor.data)))
            native.size = tensor.data.count
            (list + place).initialize(to: native)
        }
    }

    deinit {
        owned.forEach { $0.deallocate() }
        list.deallocate()
    }

    /// Copies values to memory of 64-byte alignment, which serves every type.
    private func keep<Element>(_ values: [Element]) -> UnsafeMutablePointer<Element> {
        let size = max(1, values.count * MemoryLayout<Element>.stride)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        owned.append(memory)
        let start = memory.bindMemory(to: Element.self, capacity: max(1, values.count))
        start.initialize(from: values, count: values.count)
        return start
    }
}
