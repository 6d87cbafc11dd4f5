#include "timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace edge_lra {

namespace {

constexpr std::size_t least_runs = 50;  // for a p99 that is more than the maximum of a handful
constexpr std::size_t least_in_budget = 5;
constexpr double width = 0.02;  // within 1 % to either side

using Clock = std::chrono::steady_clock;

// At how many runs the interval is looked at next: sorting takes time too.
std::size_t next_check(std::size_t checked) {
    return std::max(least_runs,
                    static_cast<std::size_t>(std::ceil(1.2 * static_cast<double>(checked))));
}

}  // namespace

double timed_ms(const Work& run) {
    const Clock::time_point start = Clock::now();
    run();
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

std::vector<double> time_runs(const Work& run, const Plan& plan, const Work& between,
                              const Work& steady) {
    for (std::int64_t i = 0; i < plan.warmup; ++i) {
        run();
        between();
    }
    steady();
    std::vector<double> latencies;
    std::size_t checked = 0;
    const Clock::time_point start = Clock::now();
    const auto is_done = [&] {
        const std::size_t runs = latencies.size();
        if (plan.runs) {
            return runs >= static_cast<std::size_t>(*plan.runs);
        }
        const double elapsed_s = std::chrono::duration<double>(Clock::now() - start).count();
        if (elapsed_s >= plan.budget_s && runs >= least_in_budget) {
            return true;
        }
        if (runs < next_check(checked)) {
            return false;
        }
        checked = runs;
        return interval_width(latencies) <= width;
    };
    while (!is_done()) {
        latencies.push_back(timed_ms(run));
        between();
    }
    return latencies;
}

double interval_width(const std::vector<double>& values) {
    std::vector<double> ordered = values;
    std::sort(ordered.begin(), ordered.end());
    const auto count = static_cast<double>(ordered.size());
    const double middle = (count - 1) / 2;
    const double reach = 1.96 * std::sqrt(count) / 2;
    const auto low = static_cast<std::size_t>(std::max(0.0, std::nearbyint(middle - reach)));
    const auto high = static_cast<std::size_t>(std::min(count - 1, std::nearbyint(middle + reach)));
    return (ordered[high] - ordered[low]) / ordered[ordered.size() / 2];
}

double median(std::vector<double> values) {
    return percentile(std::move(values), 0.5);
}

double percentile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    const double place = share * static_cast<double>(values.size() - 1);
    const auto low = static_cast<std::size_t>(place);
    const std::size_t high = std::min(low + 1, values.size() - 1);
    return values[low] + (place - static_cast<double>(low)) * (values[high] - values[low]);
}

}  // namespace edge_lra
