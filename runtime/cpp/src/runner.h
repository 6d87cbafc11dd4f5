// An opened bundle: its session and its adapters.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "adapters.h"
#include "array.h"
#include "files.h"
#include "inputs.h"
#include "manifest.h"
#include "session.h"

namespace edge_lra {

struct OpenOptions {
    std::string ort_library;  // empty: as Library::load
    int threads = 0;          // 0: onnxruntime's choice
    edge_lra_verify verify = EDGE_LRA_VERIFY_ONCE;
    fs::path stamps;           // empty: below the user's cache
    std::int64_t context = 0;  // of decoders, the most tokens of a row; 0: the model's
};

// Which adapter a call uses: the default of the runner, none, or one by its name.
struct AdapterChoice {
    edge_lra_adapter_choice kind = EDGE_LRA_ADAPTER_DEFAULT;
    std::string name;

    static AdapterChoice of(const std::optional<std::string>& name);
};

// What a run gave. It may outlive the runner: onnxruntime's values hold their allocator.
struct Outputs {
    std::vector<Value> values;
    std::vector<Named> arrays;  // over the values' memory, in the manifest's order
};

// One batch that was checked, to be run as often as one likes. Not for several threads at once.
class Prepared {
 public:
    Prepared(const Session& session, std::vector<Named> feeds, std::vector<std::string> outputs);

    [[nodiscard]] std::vector<Value> run() const;
    [[nodiscard]] const std::vector<std::string>& output_names() const { return outputs_; }

 private:
    const Session& session_;
    std::vector<Named> feeds_;
    std::vector<std::string> outputs_;
    std::vector<Value> values_;
    std::vector<const char*> input_names_;
    std::vector<const OrtValue*> inputs_;
    std::vector<const char*> output_names_;
};

// Safe from many threads.
class Runner {
 public:
    // Throws Failure: NOT_FOUND, DAMAGED, UNSUPPORTED, INVALID_ARGUMENT, RUNTIME, OUT_OF_MEMORY.
    Runner(fs::path folder, const OpenOptions& options);
    Runner(const Runner&) = delete;
    Runner& operator=(const Runner&) = delete;
    ~Runner() = default;

    [[nodiscard]] const fs::path& folder() const { return folder_; }
    [[nodiscard]] const Manifest& manifest() const { return manifest_; }
    [[nodiscard]] const Session& session() const { return *session_; }
    [[nodiscard]] AdapterStore& adapters() { return *adapters_; }
    // The most tokens of a row; 0 where nothing is generated.
    [[nodiscard]] std::int64_t context() const { return context_; }
    [[nodiscard]] double load_s() const { return load_s_; }

    void set_adapter(const std::optional<std::string>& name);
    [[nodiscard]] std::optional<std::string> default_adapter() const;
    [[nodiscard]] std::optional<std::string> chosen(const AdapterChoice& choice) const;

    // Check one batch. The caller's arrays must live as long as what is returned.
    [[nodiscard]] Prepared prepare(const std::vector<Named>& inputs, const AdapterChoice& choice);
    [[nodiscard]] Outputs run(const std::vector<Named>& inputs, const AdapterChoice& choice);

 private:
    void check_graph() const;

    fs::path folder_;
    Manifest manifest_;
    std::int64_t context_ = 0;
    double load_s_ = 0;
    std::unique_ptr<Session> session_;
    std::unique_ptr<AdapterStore> adapters_;
    mutable std::mutex mutex_;  // of the default
    std::optional<std::string> default_;
};

// What the graph takes beside token inputs in a run without a past: an adapter's tensors, a
// decoder's empty cache, and which of the stacked adapters each row uses, the only one.
std::vector<Named> other_feeds(const Manifest& manifest, std::int64_t rows,
                               const std::vector<Array>& adapter);

}  // namespace edge_lra
