#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "failure.h"

#ifdef __APPLE__
#include <sys/resource.h>
#endif

namespace edge_lra {

namespace {

constexpr double between_runs_s = 0.1;
constexpr double mib = 1024.0 * 1024.0;
// As the Python runner: the peak of loading over the size of the weights' file, by scheme; below
// so many bytes no machine is asked.
const std::map<std::string, double> factors{
    {"none", 1.05}, {"int8", 1.1}, {"int8-weight-only", 1.3}, {"int4", 1.4}};
constexpr double worst_factor = 1.4;
constexpr double small_bytes = 256 * mib;

// MiB of the lines "NAME:  NUMBER kB" of a file of /proc.
std::map<std::string, double> read_fields(const char* file) {
    std::ifstream stream(file);
    std::map<std::string, double> fields;
    for (std::string line; std::getline(stream, line);) {
        const std::size_t colon = line.find(':');
        if (colon != line.npos && line.size() > 3 && line.compare(line.size() - 3, 3, " kB") == 0) {
            fields[line.substr(0, colon)] = std::strtod(line.c_str() + colon + 1, nullptr) / 1024;
        }
    }
    return fields;
}

std::optional<double> read_field(const char* file, const char* name) {
    const auto fields = read_fields(file);
    const auto found = fields.find(name);
    return found == fields.end() ? std::nullopt : std::optional(found->second);
}

constexpr const char* status = "/proc/self/status";

}  // namespace

void check_memory(const fs::path& folder, const Manifest& manifest) {
    double weights = 0;
    for (const char* name : {"model.onnx", "model.onnx.data", "model.ort"}) {
        const ListedFile* entry = manifest.find_file(name);
        weights += entry != nullptr ? static_cast<double>(entry->size) : 0;
    }
    const auto factor = factors.find(manifest.scheme);
    const double needed = weights * (factor == factors.end() ? worst_factor : factor->second);
    if (needed < small_bytes) {
        return;
    }
    const auto free_mib = read_field("/proc/meminfo", "MemAvailable");
    if (free_mib && needed > *free_mib * mib) {
        fail(EDGE_LRA_OUT_OF_MEMORY, text_of(folder), ": found ", *free_mib / 1024,
             " GiB of free memory, expected ", needed / mib / 1024,
             " for the weights; close other programs, or export it with another --quantize");
    }
}

std::optional<double> rss_mib() {
    return read_field(status, "VmRSS");
}

std::optional<double> peak_rss_mib() {
#ifdef __APPLE__
    struct rusage usage {};
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        return static_cast<double>(usage.ru_maxrss) / mib;  // bytes there
    }
    return std::nullopt;
#else
    return read_field(status, "VmHWM");
#endif
}

std::optional<double> pss_mib() {
    return read_field("/proc/self/smaps_rollup", "Pss");
}

std::optional<Split> split_memory() {
    auto fields = read_fields(status);
    if (fields.find("RssAnon") == fields.end()) {
        return std::nullopt;
    }
    return Split{fields["RssAnon"], fields["RssFile"] + fields["RssShmem"]};
}

std::optional<double> mapped_mib(const fs::path& folder) {
    std::error_code error;
    const std::string prefix = text_of(fs::canonical(folder, error)) + "/";
    std::ifstream stream("/proc/self/smaps");
    if (error || !stream) {
        return std::nullopt;
    }
    double total_kib = 0;
    bool is_inside = false;
    for (std::string line; std::getline(stream, line);) {
        if (line.compare(0, 4, "Rss:") == 0) {
            total_kib += is_inside ? std::strtod(line.c_str() + 4, nullptr) : 0;
        } else if (line.find(':') > line.find('-')) {  // a mapping begins with its addresses
            const std::size_t path = line.find('/');
            is_inside = path != line.npos && line.compare(path, prefix.size(), prefix) == 0;
        }
    }
    return total_kib / 1024;
}

double Timeline::now() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Timeline::sample(bool with_pss) {
    const auto rss = rss_mib();
    const auto pss = with_pss ? pss_mib() : std::nullopt;
    const std::lock_guard lock(mutex_);
    if (rss) {
        samples_.push_back({now(), *rss, pss});
    }
}

void Timeline::mark(const std::string& name) {
    sample(true);
    marks_.emplace_back(name, now());
}

void Timeline::between_runs() {
    bool is_due = false;
    {
        const std::lock_guard lock(mutex_);
        is_due = samples_.empty() || now() - samples_.back().second >= between_runs_s;
    }
    if (is_due) {
        sample();
    }
}

std::vector<Timeline::Sample> Timeline::samples() const {
    const std::lock_guard lock(mutex_);
    std::vector<Sample> ordered = samples_;
    std::sort(ordered.begin(), ordered.end(),
              [](const Sample& a, const Sample& b) { return a.second < b.second; });
    return ordered;
}

}  // namespace edge_lra
