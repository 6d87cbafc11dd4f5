// What a profile runs and times: a batch of texts, a language model's prompts, or its next token.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "json.h"
#include "runner.h"
#include "timing.h"

namespace edge_lra {

struct Batch {
    std::int64_t rows;
    std::int64_t tokens;
};

// One runner's part in a measurement.
class Workload {
 public:
    virtual ~Workload() = default;
    Workload(const Workload&) = delete;
    Workload& operator=(const Workload&) = delete;

    virtual void first() = 0;  // with all checks
    virtual void again() = 0;  // what is timed, without them
    // Milliseconds that choosing another adapter costs; none where there is none to choose.
    virtual std::optional<double> switch_ms() = 0;
    // Bytes that keys and values fill, and those set aside; null where none are kept.
    [[nodiscard]] virtual Json cache() const = 0;

 protected:
    Workload() = default;
};

// The texts of a shape; of a decoder its prompts, or the token behind `context` others. The
// adapter is the runner's default. Throws Failure (INVALID_ARGUMENT) for what is too long, before
// anything of its size is made.
std::unique_ptr<Workload> make_workload(Runner& runner, Batch batch,
                                        std::optional<std::int64_t> context);

// The named adapter, else the default, else the first: none may mean no head. Throws Failure
// (INVALID_ARGUMENT).
std::optional<std::string> pick_adapter(const Runner& runner,
                                        const std::optional<std::string>& name);

// An adapter other than the default, to switch to; none without two.
std::optional<std::string> other_adapter(const Runner& runner);

}  // namespace edge_lra
