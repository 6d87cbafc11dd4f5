// Values of any element type as float32, for comparisons and for JSON.
#pragma once

#include <vector>

#include "array.h"

namespace edge_lra {

std::vector<float> to_floats(const Array& array);

}  // namespace edge_lra
