#include "library.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "dynamic.h"
#include "failure.h"

namespace edge_lra {

namespace {

// Functions of later versions must not be called: the oldest release would not have them.
constexpr std::uint32_t api_version = 20;
constexpr const char* oldest = "1.20.0";
constexpr const char* entry_point = "OrtGetApiBase";
constexpr const char* variable = "ONNXRUNTIME_LIB";
constexpr const char* telemetry_switch = "ORT_DISABLE_TELEMETRY";

#if defined(_WIN32)
const std::vector<std::string> usual_names{"onnxruntime.dll"};
#elif defined(__APPLE__)
const std::vector<std::string> usual_names{"libonnxruntime.dylib",
                                           "@rpath/onnxruntime.framework/onnxruntime"};
#elif defined(__ANDROID__)
const std::vector<std::string> usual_names{"libonnxruntime.so"};
#else
const std::vector<std::string> usual_names{"libonnxruntime.so.1", "libonnxruntime.so"};
#endif

using Entry = const OrtApiBase*(ORT_API_CALL*)();

std::array<int, 3> numbers_of(const std::string& version) {
    std::array<int, 3> numbers{};
    std::size_t place = 0;
    for (int& number : numbers) {
        while (place < version.size() && version[place] >= '0' && version[place] <= '9') {
            number = std::min(number * 10 + (version[place++] - '0'), 1'000'000);
        }
        ++place;
    }
    return numbers;
}

[[noreturn]] void not_found(const std::string& where, const std::string& reason) {
    fail(EDGE_LRA_NOT_FOUND, "onnxruntime: found no library that loads as ", where,
         ", expected release ", oldest, " or newer", reason.empty() ? "" : ": ", reason,
         "; give its path (--ort, ort_library or ", variable, ")");
}

Entry find_entry(const std::string& path) {
    std::string reason;
    if (!path.empty()) {
        if (void* found = find_in_library(path, entry_point, reason)) {
            return reinterpret_cast<Entry>(found);
        }
        not_found(in_quotes(path), reason);
    }
    if (void* found = find_in_process(entry_point)) {
        return reinterpret_cast<Entry>(found);
    }
    for (const std::string& name : usual_names) {
        if (void* found = find_in_library(name, entry_point, reason)) {
            return reinterpret_cast<Entry>(found);
        }
    }
    not_found(joined(usual_names), reason);
}

}  // namespace

const Library& Library::load(const std::string& path) {
    static std::mutex mutex;
    static auto& loaded = *new std::map<std::string, std::unique_ptr<Library>>;  // never unloaded
    const std::lock_guard lock(mutex);
    const char* given = std::getenv(variable);
    const std::string chosen = path.empty() && given != nullptr ? given : path;
    std::unique_ptr<Library>& library = loaded[chosen];
    if (!library) {
        set_unless_set(telemetry_switch, "1");  // 1.32 writes an id below ~/.cache without it
        library.reset(new Library(*find_entry(chosen)(), chosen));
    }
    return *library;
}

Library::Library(const OrtApiBase& base, const std::string& path)
    : version_(base.GetVersionString()) {
    require(oldest, path.empty() ? "onnxruntime" : path);
    api_ = base.GetApi(api_version);
    if (api_ == nullptr) {
        fail(EDGE_LRA_UNSUPPORTED, "onnxruntime: found release ", version_, " without version ",
             std::uint64_t{api_version}, " of its interface, expected ", oldest, " or newer");
    }
    check(api_->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "edge-lra", &env_), "onnxruntime");
    check(api_->DisableTelemetryEvents(env_), "onnxruntime");
    check(api_->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory_),
          "onnxruntime");
}

void Library::check(OrtStatus* status, const std::string& what) const {
    if (status == nullptr) {
        return;
    }
    const Owned<OrtStatus> owned(status, api_->ReleaseStatus);
    const std::string message = api_->GetErrorMessage(status);
    const auto has = [&](const char* part) { return message.find(part) != message.npos; };
    const bool full = has("bad allocation") || has("bad_alloc") || has("Failed to allocate");
    const bool broken = api_->GetErrorCode(status) == ORT_INVALID_PROTOBUF;
    fail(full     ? EDGE_LRA_OUT_OF_MEMORY
         : broken ? EDGE_LRA_DAMAGED
                  : EDGE_LRA_RUNTIME,
         what, ": ", message.substr(0, message.find('\n')));
}

bool Library::is_at_least(const std::string& version) const {
    return numbers_of(version_) >= numbers_of(version);
}

void Library::require(const std::string& minimum, const std::string& where) const {
    if (!is_at_least(minimum)) {
        fail(EDGE_LRA_UNSUPPORTED, where, ": found onnxruntime ", version_, ", expected ", minimum,
             " or newer; bring a newer library");
    }
}

}  // namespace edge_lra
