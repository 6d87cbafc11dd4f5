// What C passes in, checked and copied.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "edge_lra.h"
#include "failure.h"
#include "inputs.h"
#include "runner.h"

namespace edge_lra {

// A caller's options: of an older header the fields behind struct_size are 0; null is all zeros.
// Throws Failure (INVALID_ARGUMENT) for a struct_size that no header has.
template <class T>
T read_options(const T* given) {
    T options{};
    if (given != nullptr) {
        const std::size_t size = given->struct_size;
        if (size < sizeof(std::size_t) || size > 64 * sizeof(T)) {
            fail(EDGE_LRA_INVALID_ARGUMENT, "options: found struct_size ", std::uint64_t{size},
                 ", expected ", std::uint64_t{sizeof(T)}, "; set it to sizeof");
        }
        std::memcpy(&options, given, std::min(size, sizeof(T)));
    }
    options.struct_size = sizeof(T);
    return options;
}

// A caller's struct to be filled; null for none. Checked before the work whose result it gets.
template <class T>
class Result {
 public:
    // Throws Failure (INVALID_ARGUMENT) for a struct_size that no header has.
    explicit Result(T* given) : given_(given) { (void)read_options(given); }

    // Fill as much as the caller's header knows.
    void write(T result) const {
        if (given_ != nullptr) {
            result.struct_size = given_->struct_size;
            std::memcpy(given_, &result, std::min(given_->struct_size, sizeof(T)));
        }
    }

 private:
    T* given_;
};

// Ids over the caller's memory, copied. Throws Failure (INVALID_ARGUMENT) for null and for more
// than any context holds, so that a wrong count is told and not read.
std::vector<std::int64_t> read_ids(const std::int64_t* ids, std::size_t count, const char* name);

// Throws Failure (INVALID_ARGUMENT) for null.
template <class T>
T& require(T* pointer, const char* name) {
    if (pointer == nullptr) {
        fail(EDGE_LRA_INVALID_ARGUMENT, name, ": found null, expected a pointer");
    }
    return *pointer;
}

std::string text_or_empty(const char* text);

AdapterChoice read_choice(edge_lra_adapter_choice kind, const char* name);

// Arrays over the caller's memory.
std::vector<Named> read_tensors(const edge_lra_tensor* tensors, std::size_t count);

edge_lra_tensor as_tensor(const Named& named);

}  // namespace edge_lra
