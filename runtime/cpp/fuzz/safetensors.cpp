// Any bytes give tensors inside them or a Failure; what was read is written and read alike.
#include "safetensors.h"

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>

#include "failure.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    const auto content = std::make_shared<const edge_lra::Bytes>(bytes, bytes + size);
    try {
        unsigned sum = 0;
        const edge_lra::Arrays tensors = edge_lra::parse_safetensors(content, "fuzzed");
        for (const auto& entry : tensors) {  // the sanitizer tells of bytes outside
            const edge_lra::Array& array = entry.second;
            sum = std::accumulate(array.data, array.data + array.size, sum,
                                  [](unsigned a, std::byte b) { return a + unsigned(b); });
        }
        const std::string text = edge_lra::write_safetensors(tensors);
        const auto* again = reinterpret_cast<const std::byte*>(text.data());
        const auto copy = std::make_shared<const edge_lra::Bytes>(again, again + text.size());
        if (edge_lra::parse_safetensors(copy, "written").size() != tensors.size()) {
            std::abort();
        }
    } catch (const edge_lra::Failure&) {
    }
    return 0;
}
