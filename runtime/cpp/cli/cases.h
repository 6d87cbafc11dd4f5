// Integer products that every onnxruntime must answer exactly (runtime/cases).
#pragma once

#include <cstddef>
#include <string>

#include "runner.h"

namespace edge_lra {

struct CaseCounts {
    std::size_t cases = 0;
    std::size_t exact = 0;
    std::string onnxruntime;
};

// Run integers.onnx on the tensors a.N of integers.safetensors and compare with its y.N.
CaseCounts check_integers(const fs::path& folder, const OpenOptions& options);

}  // namespace edge_lra
