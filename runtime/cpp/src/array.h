// Element types and dense arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "edge_lra.h"

namespace edge_lra {

using Shape = std::vector<std::int64_t>;
using Bytes = std::vector<std::byte>;

enum class Kind { real, integer, truth };

struct DType {
    edge_lra_dtype id;
    std::string_view numpy;        // its name in a manifest
    std::string_view safetensors;  // its name in a safetensors header
    std::size_t width;             // bytes
    Kind kind;
    int onnx;  // ONNXTensorElementDataType
};

// All of edge_lra_dtype.
const DType* find_dtype(edge_lra_dtype id) noexcept;
const DType* find_numpy(std::string_view name) noexcept;
const DType* find_safetensors(std::string_view name) noexcept;
const DType* find_onnx(int type) noexcept;

// How many elements there are; none where a size is negative or the bytes overflow.
std::optional<std::size_t> count_elements(const Shape& shape, std::size_t width) noexcept;

// Row-major values. `owner` keeps the memory alive; without one it is the caller's.
struct Array {
    const DType* dtype = nullptr;
    Shape shape;
    const std::byte* data = nullptr;
    std::size_t size = 0;  // bytes
    std::shared_ptr<const void> owner;

    // As elements of T, whose width must be the dtype's.
    template <class T>
    [[nodiscard]] const T* as() const noexcept {
        return reinterpret_cast<const T*>(data);
    }
    [[nodiscard]] std::size_t count() const noexcept { return dtype ? size / dtype->width : 0; }
};

using Arrays = std::map<std::string, Array>;

// An array of its own memory, zeroed; the pointer is to fill it.
struct Fresh {
    Array array;
    std::byte* data;
};
Fresh make_array(const DType& dtype, Shape shape);

}  // namespace edge_lra
