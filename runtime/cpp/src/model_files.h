// The files that a model.onnx names: onnxruntime would open any path on the disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

namespace edge_lra {

// A model's bytes, in memory or in a file that is too large for it.
class Source {
 public:
    virtual ~Source() = default;
    [[nodiscard]] virtual std::uint64_t size() const = 0;
    // `count` bytes (at most 4096) from `offset`; they lie inside.
    virtual const std::uint8_t* read(std::uint64_t offset, std::size_t count) = 0;

 protected:
    Source() = default;
    Source(const Source&) = default;
    Source& operator=(const Source&) = default;
    Source(Source&&) = default;
    Source& operator=(Source&&) = default;
};

// Every location of external data in an ONNX ModelProto: of initializers, dense and sparse, and of
// tensors in attributes, through subgraphs and functions. Throws Failure (DAMAGED, beginning with
// `where`) for what is no protobuf or nests deeper than 64.
std::set<std::string> external_files(Source& model, const std::string& where);

}  // namespace edge_lra
