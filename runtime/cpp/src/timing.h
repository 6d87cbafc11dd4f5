// Timed runs: as many as the median needs, within a budget of time, as edge-lra's agent takes them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace edge_lra {

using Work = std::function<void()>;

// How many runs to take.
struct Plan {
    std::optional<std::int64_t> runs;  // none: as many as the median needs
    double budget_s = 5;               // no new run after so long, once there are 5
    std::int64_t warmup = 2;           // before, not counted
};

double timed_ms(const Work& run);

// Milliseconds of each run, in order. `between` is called after each, outside of what is timed;
// `steady` once the warm-up is over.
std::vector<double> time_runs(const Work& run, const Plan& plan, const Work& between,
                              const Work& steady);

// Width of the median's 95 % interval over the median: the bootstrap distribution of a median is
// binomial (Efron, 1979, section 3), whose normal limit gives ranks 1.96 sqrt(n)/2 to either side.
double interval_width(const std::vector<double>& values);

double median(std::vector<double> values);

// The value below which a share of the values lies, between neighbours in proportion.
double percentile(std::vector<double> values, double share);

}  // namespace edge_lra
