// onnxruntime, loaded when it is first needed: one binary runs with any release from 1.20 on.
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <string>

namespace edge_lra {

template <class T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

// A loaded onnxruntime. It stays loaded until the process ends, as its threads' local data may
// outlive every session.
class Library {
 public:
    // Load `path`; empty: what the process has linked or loaded already, else the library that
    // the environment's ONNXRUNTIME_LIB names, else the platform's usual names. One path is loaded
    // once. Throws Failure: NOT_FOUND, or UNSUPPORTED for an onnxruntime that is too old.
    static const Library& load(const std::string& path);

    [[nodiscard]] const OrtApi& api() const { return *api_; }
    [[nodiscard]] OrtEnv& env() const { return *env_; }
    [[nodiscard]] const OrtMemoryInfo& memory() const { return *memory_; }
    [[nodiscard]] const std::string& version() const { return version_; }

    // Throw Failure unless onnxruntime was content; `what` begins the line.
    void check(OrtStatus* status, const std::string& what) const;

    [[nodiscard]] bool is_at_least(const std::string& version) const;

    // Throw Failure (UNSUPPORTED) where the version is below "MAJOR.MINOR.PATCH".
    void require(const std::string& minimum, const std::string& where) const;

 private:
    explicit Library(const OrtApiBase& base, const std::string& path);

    const OrtApi* api_ = nullptr;
    OrtEnv* env_ = nullptr;
    OrtMemoryInfo* memory_ = nullptr;
    std::string version_;
};

}  // namespace edge_lra
