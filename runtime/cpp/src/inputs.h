// The inputs of a run, checked before onnxruntime sees them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "array.h"
#include "manifest.h"

namespace edge_lra {

struct Named {
    std::string name;
    Array array;
};

// The token inputs in the manifest's order and dtypes. Missing token_type_ids are zeros. Throws
// Failure (INVALID_ARGUMENT) for what the Python runner refuses too: unknown and missing names,
// wrong dtypes, ranks and sizes, ids outside of the vocabulary, too many tokens, and a decoder's
// padding, which its attention would take for tokens.
std::vector<Array> check_inputs(const Manifest& manifest, const std::vector<Named>& given);

// Sizes of the axes that have a name, as far as inputs told them.
using AxisSizes = std::map<std::string, std::int64_t>;

// Throws Failure (INVALID_ARGUMENT) unless the shape is the manifest's.
void check_shape(const std::string& name, const Shape& found, const std::vector<Axis>& expected,
                 AxisSizes& sizes);

// Throws Failure (INVALID_ARGUMENT) where there are more tokens than the model takes.
void check_length(const Manifest& manifest, std::int64_t tokens);

// The smallest and largest of an array of integers; as text, since uint64 exceeds any other type.
struct Range {
    bool has_negative;
    std::int64_t low;    // the smallest, if negative
    std::uint64_t high;  // the largest, 0 where all are negative
};
Range range_of(const Array& array);

// Throws Failure (INVALID_ARGUMENT, beginning with `where`) unless 0 <= ids < size.
void check_ids(const std::string& where, const Array& ids, std::int64_t size);

}  // namespace edge_lra
