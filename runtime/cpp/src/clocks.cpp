#include "clocks.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "files.h"

namespace edge_lra {

namespace {

std::string read_line(const fs::path& file) {
    std::ifstream stream(file);
    std::string line;
    std::getline(stream, line);
    return line;
}

std::optional<double> read_number(const fs::path& file) {
    const std::string line = read_line(file);
    char* end = nullptr;
    const double value = std::strtod(line.c_str(), &end);
    return end == line.c_str() ? std::nullopt : std::optional(value);
}

// Folders below `folder` whose names are `prefix` and a number, in order.
std::vector<fs::path> numbered(const fs::path& folder, const std::string& prefix) {
    std::vector<fs::path> found;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        const std::string name = text_of(it->path().filename());
        const bool is_one = name.compare(0, prefix.size(), prefix) == 0 &&
                            name.size() > prefix.size() &&
                            name.find_first_not_of("0123456789", prefix.size()) == name.npos;
        if (is_one) {
            found.push_back(it->path());
        }
    }
    std::sort(found.begin(), found.end());
    return found;
}

}  // namespace

Json read_clocks() {
    Json clocks = Json::object();
    Json celsius = Json::object();
    double throttled = 0;
    for (const fs::path& core : numbered("/sys/devices/system/cpu", "cpu")) {
        if (const auto khz = read_number(core / "cpufreq" / "scaling_cur_freq")) {
            clocks[text_of(core.filename())] = *khz / 1e3;
        }
        throttled += read_number(core / "thermal_throttle" / "core_throttle_count").value_or(0);
    }
    for (const fs::path& zone : numbered("/sys/class/thermal", "thermal_zone")) {
        if (const auto millis = read_number(zone / "temp")) {
            std::string name = text_of(zone.filename());
            const std::string type = read_line(zone / "type");
            if (!type.empty()) {
                name.append(" ").append(type);
            }
            celsius[name] = *millis / 1e3;
        }
    }
    return {{"clocks_mhz", clocks},
            {"celsius", celsius},
            {"throttled", static_cast<std::int64_t>(throttled)}};
}

double thread_seconds() {
#ifdef _WIN32
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
#else
    struct timespec now {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
#endif
}

}  // namespace edge_lra
