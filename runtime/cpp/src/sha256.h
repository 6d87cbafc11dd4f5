// SHA-256 (FIPS 180-4), so that a phone's app needs no crypto library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace edge_lra {

class Sha256 {
 public:
    void update(const void* data, std::size_t size) noexcept;
    // The digest in hex, of all that came; the object is used up.
    [[nodiscard]] std::string hex();

 private:
    void take(const std::uint8_t* block) noexcept;

    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::uint8_t, 64> block_{};
    std::uint64_t size_ = 0;  // bytes so far
};

std::string sha256(const void* data, std::size_t size);

}  // namespace edge_lra
