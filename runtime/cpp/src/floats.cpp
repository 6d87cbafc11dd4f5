#include "floats.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "failure.h"

namespace edge_lra {

namespace {

float from_bfloat16(std::uint16_t bits) {
    const std::uint32_t wide = std::uint32_t{bits} << 16U;
    float value = 0;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

float from_float16(std::uint16_t bits) {
    const auto exponent = static_cast<int>(bits >> 10U & 0x1fU);
    const auto fraction = static_cast<int>(bits & 0x3ffU);
    float value = 0;
    if (exponent == 31) {
        value = fraction == 0 ? INFINITY : NAN;
    } else if (exponent == 0) {
        value = std::ldexp(static_cast<float>(fraction), -24);
    } else {
        value = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    }
    return (bits & 0x8000U) != 0 ? -value : value;
}

template <class From, class Convert>
std::vector<float> convert(const Array& array, Convert convert_one) {
    std::vector<float> values(array.count());
    std::transform(array.as<From>(), array.as<From>() + array.count(), values.begin(), convert_one);
    return values;
}

template <class From>
std::vector<float> cast(const Array& array) {
    return convert<From>(array, [](From value) { return static_cast<float>(value); });
}

}  // namespace

std::vector<float> to_floats(const Array& array) {
    switch (array.dtype->id) {
        case EDGE_LRA_FLOAT32:
            return cast<float>(array);
        case EDGE_LRA_FLOAT64:
            return cast<double>(array);
        case EDGE_LRA_FLOAT16:
            return convert<std::uint16_t>(array, from_float16);
        case EDGE_LRA_BFLOAT16:
            return convert<std::uint16_t>(array, from_bfloat16);
        case EDGE_LRA_INT8:
            return cast<std::int8_t>(array);
        case EDGE_LRA_INT16:
            return cast<std::int16_t>(array);
        case EDGE_LRA_INT32:
            return cast<std::int32_t>(array);
        case EDGE_LRA_INT64:
            return cast<std::int64_t>(array);
        case EDGE_LRA_UINT16:
            return cast<std::uint16_t>(array);
        case EDGE_LRA_UINT32:
            return cast<std::uint32_t>(array);
        case EDGE_LRA_UINT64:
            return cast<std::uint64_t>(array);
        default:
            return cast<std::uint8_t>(array);
    }
}

}  // namespace edge_lra
