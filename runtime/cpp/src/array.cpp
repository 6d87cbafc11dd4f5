#include "array.h"

#include <algorithm>
#include <array>
#include <limits>

#include "failure.h"

namespace edge_lra {

namespace {

// The last column is ONNX's TensorProto.DataType, which onnxruntime's C API shares.
constexpr std::array<DType, 13> dtypes{{
    {EDGE_LRA_FLOAT32, "float32", "F32", 4, Kind::real, 1},
    {EDGE_LRA_FLOAT64, "float64", "F64", 8, Kind::real, 11},
    {EDGE_LRA_FLOAT16, "float16", "F16", 2, Kind::real, 10},
    {EDGE_LRA_BFLOAT16, "bfloat16", "BF16", 2, Kind::real, 16},
    {EDGE_LRA_INT8, "int8", "I8", 1, Kind::integer, 3},
    {EDGE_LRA_INT16, "int16", "I16", 2, Kind::integer, 5},
    {EDGE_LRA_INT32, "int32", "I32", 4, Kind::integer, 6},
    {EDGE_LRA_INT64, "int64", "I64", 8, Kind::integer, 7},
    {EDGE_LRA_UINT8, "uint8", "U8", 1, Kind::integer, 2},
    {EDGE_LRA_UINT16, "uint16", "U16", 2, Kind::integer, 4},
    {EDGE_LRA_UINT32, "uint32", "U32", 4, Kind::integer, 12},
    {EDGE_LRA_UINT64, "uint64", "U64", 8, Kind::integer, 13},
    {EDGE_LRA_BOOL, "bool", "BOOL", 1, Kind::truth, 9},
}};

template <class Test>
const DType* find(Test test) noexcept {
    const auto* found = std::find_if(dtypes.begin(), dtypes.end(), test);
    return found == dtypes.end() ? nullptr : found;
}

}  // namespace

const DType* find_dtype(edge_lra_dtype id) noexcept {
    return find([id](const DType& one) { return one.id == id; });
}

const DType* find_numpy(std::string_view name) noexcept {
    return find([name](const DType& one) { return one.numpy == name; });
}

const DType* find_safetensors(std::string_view name) noexcept {
    return find([name](const DType& one) { return one.safetensors == name; });
}

const DType* find_onnx(int type) noexcept {
    return find([type](const DType& one) { return one.onnx == type; });
}

std::optional<std::size_t> count_elements(const Shape& shape, std::size_t width) noexcept {
    // Sizes are multiplied without those of 0 too: [2^40, 2^40, 0] is no sane shape either.
    const auto most = static_cast<std::uint64_t>(std::numeric_limits<std::ptrdiff_t>::max());
    std::uint64_t largest = width;
    bool empty = false;
    for (const std::int64_t size : shape) {
        if (size < 0) {
            return std::nullopt;
        }
        empty = empty || size == 0;
        const auto factor = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1));
        if (largest > most / factor) {
            return std::nullopt;
        }
        largest *= factor;
    }
    return empty ? 0 : static_cast<std::size_t>(largest / width);
}

Fresh make_array(const DType& dtype, Shape shape) {
    const auto count = count_elements(shape, dtype.width);
    if (!count) {
        fail(EDGE_LRA_OUT_OF_MEMORY, "memory: found an array of ", listed(shape),
             ", expected one that fits");
    }
    // A vector of words, since one of bytes need not be aligned for the dtype.
    const std::size_t words = (*count * dtype.width + 7) / 8;
    auto memory = std::make_shared<std::vector<std::uint64_t>>(std::max<std::size_t>(words, 1));
    auto* data = reinterpret_cast<std::byte*>(memory->data());
    return {{&dtype, std::move(shape), data, *count * dtype.width, std::move(memory)}, data};
}

}  // namespace edge_lra
