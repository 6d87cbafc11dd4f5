// Latency, loading and memory of a runner, as edge-lra's agent answers "measure".
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "json.h"
#include "memory.h"
#include "runner.h"
#include "timing.h"
#include "workload.h"

namespace edge_lra {

struct ProfileOptions {
    Batch batch{1, 0};                    // 0 tokens: 128, or as many as fit
    std::optional<std::int64_t> context;  // of decoders: time the token behind so many
    Plan plan;
    std::optional<std::string> adapter;
    bool measure_switch = false;
};

// Watches memory from before a runner is opened, where one can.
class Watch {
 public:
    // Before onnxruntime is loaded, where that is to be seen.
    Watch() = default;

    // onnxruntime is in memory, and was loaded in so many seconds.
    void imported(double seconds);
    // The runner is opened.
    void loaded();

    Timeline timeline;
    double imports_s = 0;
    std::optional<Split> imported_split;
    std::optional<Split> loaded_split;
};

// Samples memory from a thread of its own while it lives.
class Sampler {
 public:
    explicit Sampler(Timeline& timeline);
    ~Sampler();
    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;

 private:
    struct State;
    std::unique_ptr<State> state_;
};

// Throws Failure as Runner::run. Sets the runner's default adapter while it measures.
Json profile(Runner& runner, const ProfileOptions& options, Watch& watch);

}  // namespace edge_lra
