#include "generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "cache.h"
#include "failure.h"

namespace edge_lra {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

void check_limits(const Runner& runner, std::int64_t prompt, std::int64_t max_tokens) {
    const std::int64_t context = runner.context();
    if (max_tokens < 1) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "max_tokens: found ", max_tokens, ", expected at least 1");
    }
    if (prompt < 1 || prompt >= context) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "prompt: found ", prompt, " tokens, expected ",
             prompt < 1 ? "at least 1" : say("fewer than ", context, ", the context; shorten it"));
    }
    if (max_tokens > context - prompt) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "max_tokens: found ", max_tokens, " behind a prompt of ",
             prompt, ", expected at most ", context - prompt, " in a context of ", context,
             "; lower it");
    }
}

}  // namespace

std::int64_t likeliest(const float* logits, std::int64_t count) {
    if (std::any_of(logits, logits + count, [](float value) { return std::isnan(value); })) {
        fail(EDGE_LRA_RUNTIME, "generation: found logits that are not numbers; export again");
    }
    return std::max_element(logits, logits + count) - logits;
}

Generation generate(Runner& runner, const std::vector<std::int64_t>& prompt,
                    const GenerateOptions& options) {
    require_decoder(runner);
    const auto count = static_cast<std::int64_t>(prompt.size());
    check_limits(runner, count, options.max_tokens);
    const std::int64_t vocabulary = *runner.manifest().vocabulary_size;
    const auto& ends =
        options.stop_tokens ? *options.stop_tokens : runner.manifest().decoder->eos_token_ids;
    Cache cache(runner, 1, runner.adapters().tensors(runner.chosen(options.adapter)));
    Generation found;
    Clock::time_point start = Clock::now();
    const float* logits = cache.prefill(prompt.data(), count);
    for (;;) {
        const std::int64_t token = likeliest(logits, vocabulary);
        found.tokens.push_back(token);
        if (found.tokens.size() == 1) {
            found.prefill_s = seconds_since(start);
            start = Clock::now();
        }
        const bool is_end = std::find(ends.begin(), ends.end(), token) != ends.end();
        if (options.on_token && !options.on_token(token)) {
            found.stopped_by = EDGE_LRA_CALLBACK;
        }
        if (is_end) {
            found.stopped_by = EDGE_LRA_STOP_TOKEN;
        }
        const bool is_full = static_cast<std::int64_t>(found.tokens.size()) == options.max_tokens;
        if (is_full || found.stopped_by != EDGE_LRA_MAX_TOKENS) {
            found.decode_s = seconds_since(start);
            return found;
        }
        logits = cache.step(&token);
    }
}

void require_decoder(const Runner& runner) {
    if (!runner.manifest().decoder) {
        fail(EDGE_LRA_UNSUPPORTED, text_of(runner.folder()), ": the bundle's task is ",
             runner.manifest().task, ", expected text-generation; use run");
    }
}

}  // namespace edge_lra
