// Memory of this process and machine, where the system tells: Linux and Android by /proc.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "files.h"
#include "manifest.h"

namespace edge_lra {

// Refuse to load what does not fit, before the system's killer does. Throws Failure
// (OUT_OF_MEMORY) with the figures.
void check_memory(const fs::path& folder, const Manifest& manifest);

std::optional<double> rss_mib();
std::optional<double> peak_rss_mib();
std::optional<double> pss_mib();  // shared pages by their share

// Resident memory of no file (heap, onnxruntime's arena), and of files (code, mapped weights).
struct Split {
    double anonymous_mib;
    double file_mib;
};
std::optional<Split> split_memory();

// What is resident of the files below a folder that are mapped into this process.
std::optional<double> mapped_mib(const fs::path& folder);

// RSS and PSS over time, and the moments that have a name.
class Timeline {
 public:
    struct Sample {
        double second;
        double rss_mib;
        std::optional<double> pss_mib;
    };

    Timeline() : start_(std::chrono::steady_clock::now()) {}

    void sample(bool with_pss = false);
    // Give this moment a name, and sample it.
    void mark(const std::string& name);
    // Take a sample if the last one is 0.1 s old.
    void between_runs();

    [[nodiscard]] std::vector<Sample> samples() const;  // in order
    [[nodiscard]] const std::vector<std::pair<std::string, double>>& marks() const {
        return marks_;
    }

 private:
    [[nodiscard]] double now() const;

    std::chrono::steady_clock::time_point start_;
    mutable std::mutex mutex_;
    std::vector<Sample> samples_;
    std::vector<std::pair<std::string, double>> marks_;
};

}  // namespace edge_lra
