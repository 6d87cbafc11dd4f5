// Any bytes give names of files or a Failure, also when they are read through a small window.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "failure.h"
#include "model_files.h"

namespace {

// Copies each piece into memory of just its size, so that the sanitizer sees a read behind it.
class Pieces : public edge_lra::Source {
 public:
    Pieces(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

    [[nodiscard]] std::uint64_t size() const override { return size_; }

    const std::uint8_t* read(std::uint64_t offset, std::size_t count) override {
        if (offset > size_ || count > size_ - offset) {
            std::abort();
        }
        piece_ = std::vector<std::uint8_t>(data_ + offset, data_ + offset + count);
        return piece_.data();
    }

 private:
    const std::uint8_t* data_;
    std::size_t size_;
    std::vector<std::uint8_t> piece_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        Pieces pieces(data, size);
        (void)edge_lra::external_files(pieces, "fuzzed");
    } catch (const edge_lra::Failure&) {
    }
    return 0;
}
