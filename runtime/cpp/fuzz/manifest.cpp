// Any manifest gives entries or a Failure. What the fuzzer writes is sealed first: it would not
// find the digest of its own bytes.
#include "manifest.h"

#include <cstdint>
#include <string>

#include "failure.h"
#include "sha256.h"

namespace {

constexpr std::size_t start = 14;  // behind `{\n "sha256": "`
constexpr std::size_t length = 64;

void seal(std::string& bytes) {
    if (bytes.size() >= start + length) {
        bytes.replace(start, length, length, '0');
        bytes.replace(start, length, edge_lra::sha256(bytes.data(), bytes.size()));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string bytes(reinterpret_cast<const char*>(data), size);
    seal(bytes);
    try {
        const edge_lra::Manifest manifest = edge_lra::parse_manifest(bytes, "fuzzed");
        (void)manifest.graph_inputs();
        (void)manifest.adapter_names();
    } catch (const edge_lra::Failure&) {
    }
    return 0;
}
