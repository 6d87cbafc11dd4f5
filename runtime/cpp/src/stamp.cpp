#include "stamp.h"

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <system_error>

#include "failure.h"
#include "sha256.h"

namespace edge_lra {

namespace {

fs::path cache_folder() {
    const auto variable = [](const char* name) {
        const char* value = std::getenv(name);
        return value != nullptr ? path_of(value) : fs::path();
    };
#ifdef _WIN32
    const fs::path base = variable("LOCALAPPDATA");
#else
    fs::path base = variable("XDG_CACHE_HOME");
    if (base.empty()) {
        base = variable("HOME");
        base = base.empty() ? base : base / ".cache";
    }
#endif
    return base.empty() ? base : base / "edge-lra" / "checked";
}

// A file's time of change in nanoseconds, and its inode.
std::string moment_of(const fs::path& file) {
#ifdef _WIN32
    std::error_code error;
    const auto time = fs::last_write_time(file, error).time_since_epoch().count();
    return say(std::int64_t{time}, " 0");
#else
    struct stat found {};
    if (stat(file.c_str(), &found) != 0) {
        return "";
    }
#ifdef __APPLE__
    const struct timespec& time = found.st_mtimespec;
#else
    const struct timespec& time = found.st_mtim;
#endif
    const std::int64_t moment = std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
    return say(moment, " ", std::uint64_t{found.st_ino});
#endif
}

}  // namespace

Stamp::Stamp(const fs::path& bundle, const Manifest& manifest, const fs::path& folder) {
    const fs::path place = folder.empty() ? cache_folder() : folder;
    if (place.empty()) {
        return;
    }
    std::error_code error;
    std::string identity = text_of(fs::canonical(bundle, error));
    for (const auto& [name, entry] : manifest.files) {
        identity += say("\n", name, " ", entry.sha256, " ", entry.size, " ",
                        moment_of(bundle / path_of(name)));
    }
    file_ = place / sha256(identity.data(), identity.size());
}

bool Stamp::is_there() const {
    std::error_code error;
    return !file_.empty() && fs::exists(file_, error);
}

void Stamp::write() const {
    if (file_.empty()) {
        return;
    }
    std::error_code error;
    fs::create_directories(file_.parent_path(), error);
    std::ofstream(file_, std::ios::app).close();
}

}  // namespace edge_lra
