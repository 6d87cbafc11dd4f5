// Golden vectors: what every runner of a bundle must answer.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "array.h"
#include "runner.h"

namespace edge_lra {

// One batch: the adapter, the token inputs, the bundle's and the float model's outputs. A language
// model's is a prompt, the logits of its last token, and what greedily follows.
struct GoldenCase {
    std::optional<std::string> adapter;
    Arrays inputs;
    Arrays outputs;
    Arrays exact;
    std::vector<std::int64_t> tokens;  // of greedy
    std::vector<float> margins;        // each token's logit less the next smaller one
};

// A bundle's cases; none if it was not verified. Throws Failure: NOT_FOUND, DAMAGED.
std::vector<GoldenCase> read_golden(const fs::path& folder, const Manifest& manifest);

// How far answers are from the recorded ones; edge_lra.h's edge_lra_golden says what each means.
struct Comparison {
    std::size_t cases = 0;
    double max_abs_error = 0;
    double max_abs_error_float = 0;
    double recorded_error_float = 0;
    double kernel_spread = 0;  // the scheme's share of the float model's largest output
    std::size_t decided = 0;
    std::size_t agreed = 0;

    [[nodiscard]] double allowed_error_float() const;
};

// Run the cases and compare.
Comparison check_golden(Runner& runner);

// Throws Failure (GATE_FAILED) where an answer is further from the float model than allowed, or a
// decoder finds another token where one is clearly the likeliest.
void require_faithful(const Runner& runner, const Comparison& found);

}  // namespace edge_lra
