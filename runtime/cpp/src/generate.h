// Greedy generation: a prompt is read, then the likeliest token is taken again and again.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "runner.h"

namespace edge_lra {

struct GenerateOptions {
    AdapterChoice adapter;
    std::int64_t max_tokens = 0;
    std::optional<std::vector<std::int64_t>> stop_tokens;  // none: the manifest's eos_token_ids
    std::function<bool(std::int64_t)> on_token;            // false ends it
};

struct Generation {
    std::vector<std::int64_t> tokens;  // new ones, the stop token among them
    edge_lra_stopped_by stopped_by = EDGE_LRA_MAX_TOKENS;
    double prefill_s = 0;
    double decode_s = 0;
};

// The place of the largest logit, the first of equal ones. Throws Failure (RUNTIME) where one is
// not a number.
std::int64_t likeliest(const float* logits, std::int64_t count);

// Throws Failure: UNSUPPORTED for a bundle that generates nothing, INVALID_ARGUMENT for a prompt
// that is empty, too long or of unknown ids, else as Runner::run.
Generation generate(Runner& runner, const std::vector<std::int64_t>& prompt,
                    const GenerateOptions& options);

// Throws Failure (UNSUPPORTED) for a bundle that generates nothing.
void require_decoder(const Runner& runner);

}  // namespace edge_lra
