#include "profile.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "clocks.h"
#include "failure.h"

namespace edge_lra {

namespace {

constexpr std::chrono::milliseconds sampling{10};
constexpr std::int64_t usual_tokens = 128;

using Clock = std::chrono::steady_clock;

// Puts the default adapter back, however a profile ends.
class Chosen {
 public:
    Chosen(Runner& runner, const std::optional<std::string>& name)
        : runner_(runner), was_(runner.default_adapter()) {
        runner.set_adapter(name);
    }
    ~Chosen() { runner_.set_adapter(was_); }
    Chosen(const Chosen&) = delete;
    Chosen& operator=(const Chosen&) = delete;

 private:
    Runner& runner_;
    std::optional<std::string> was_;
};

Json memory_json(const Runner& runner, const Watch& watch, const std::optional<double>& peak) {
    Json samples = Json::array();
    for (const Timeline::Sample& one : watch.timeline.samples()) {
        samples.push_back({one.second, one.rss_mib, or_null(one.pss_mib)});
    }
    Json marks = Json::array();
    for (const auto& [name, second] : watch.timeline.marks()) {
        marks.push_back({name, second});
    }
    Json parts = nullptr;
    const auto ended = split_memory();
    const auto mapped = mapped_mib(runner.folder());
    if (watch.imported_split && watch.loaded_split && ended) {
        parts = {{"imported_anonymous_mib", watch.imported_split->anonymous_mib},
                 {"imported_file_mib", watch.imported_split->file_mib},
                 {"loaded_anonymous_mib", watch.loaded_split->anonymous_mib},
                 {"ended_anonymous_mib", ended->anonymous_mib},
                 {"ended_file_mib", ended->file_mib},
                 {"mapped_mib", or_null(mapped)}};
    }
    return {{"samples", std::move(samples)},
            {"marks", std::move(marks)},
            {"peak_rss_mib", or_null(peak)},
            {"split", std::move(parts)}};
}

Json summary_json(const std::vector<double>& latencies) {
    Json summary = Json::object();
    const std::pair<const char*, double> shares[] = {
        {"p50_ms", 0.5}, {"p90_ms", 0.9}, {"p95_ms", 0.95}, {"p99_ms", 0.99}, {"min_ms", 0.0}};
    for (const auto& [name, share] : shares) {
        summary[name] = percentile(latencies, share);
    }
    summary["mean_ms"] = std::accumulate(latencies.begin(), latencies.end(), 0.0) /
                         static_cast<double>(latencies.size());
    summary["runs"] = latencies.size();
    return summary;
}

// Clocks, and how much of the wall's time this thread had a core, between two looks.
class Looks {
 public:
    void look() {
        clocks_.push_back(read_clocks());
        moments_.emplace_back(Clock::now(), thread_seconds());
    }
    [[nodiscard]] const Json& clocks() const { return clocks_; }
    [[nodiscard]] double busy() const {
        const auto& [began, used_before] = moments_.front();
        const auto& [ended, used_after] = moments_.back();
        return (used_after - used_before) / std::chrono::duration<double>(ended - began).count();
    }

 private:
    Json clocks_ = Json::array();
    std::vector<std::pair<Clock::time_point, double>> moments_;
};

void check_plan(const Plan& plan) {
    const bool is_sane = (!plan.runs || (*plan.runs >= 1 && *plan.runs <= 100'000'000)) &&
                         plan.budget_s >= 0 && plan.budget_s <= 86400 && plan.warmup >= 0 &&
                         plan.warmup <= 1'000'000;
    if (!is_sane) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "profile: found runs ", plan.runs.value_or(0),
             ", budget_s ", plan.budget_s, ", warmup ", plan.warmup,
             ", expected at least 1 run, a budget of at most a day and no negative numbers");
    }
}

Batch with_tokens(const Runner& runner, Batch batch) {
    if (batch.tokens == 0) {
        batch.tokens = std::min(usual_tokens, runner.manifest().max_length.value_or(usual_tokens));
        if (runner.context() != 0) {
            batch.tokens = std::min(batch.tokens, runner.context());
        }
    }
    return batch;
}

}  // namespace

void Watch::imported(double seconds) {
    imports_s = seconds;
    timeline.mark("imports");
    imported_split = split_memory();
}

void Watch::loaded() {
    loaded_split = split_memory();
    timeline.mark("loaded");
}

struct Sampler::State {
    std::mutex mutex;
    std::condition_variable changed;
    bool is_done = false;
    std::thread thread;
};

Sampler::Sampler(Timeline& timeline) : state_(std::make_unique<State>()) {
    State& state = *state_;
    state.thread = std::thread([&state, &timeline] {
        std::unique_lock lock(state.mutex);
        while (!state.changed.wait_for(lock, sampling, [&] { return state.is_done; })) {
            timeline.sample();
        }
    });
}

Sampler::~Sampler() {
    {
        const std::lock_guard lock(state_->mutex);
        state_->is_done = true;
    }
    state_->changed.notify_one();
    state_->thread.join();
}

Json profile(Runner& runner, const ProfileOptions& options, Watch& watch) {
    check_plan(options.plan);
    const Chosen chosen(runner, pick_adapter(runner, options.adapter));
    const auto work = make_workload(runner, with_tokens(runner, options.batch), options.context);
    double first_run_ms = 0;
    {
        const Sampler sampler(watch.timeline);
        first_run_ms = timed_ms([&] { work->first(); });
    }
    watch.timeline.mark("first run");
    Looks looks;
    const std::vector<double> latencies =
        time_runs([&] { work->again(); }, options.plan, [&] { watch.timeline.between_runs(); },
                  [&] {
                      watch.timeline.mark("steady");
                      looks.look();
                  });
    looks.look();
    const auto peak = peak_rss_mib();  // before the book-keeping below adds to it
    watch.timeline.sample(true);
    Json answer = {{"latencies_ms", Json::array({latencies})},
                   {"clocks", looks.clocks()},
                   {"busy", looks.busy()},
                   {"imports_s", watch.imports_s},
                   {"load_s", runner.load_s()},
                   {"first_run_ms", first_run_ms},
                   {"adapters", Json::array({or_null(runner.default_adapter())})},
                   {"memory", memory_json(runner, watch, peak)},
                   {"summary", summary_json(latencies)}};
    answer["switch_ms"] = options.measure_switch ? or_null(work->switch_ms()) : Json(nullptr);
    answer["cache"] = work->cache();
    return answer;
}

}  // namespace edge_lra
