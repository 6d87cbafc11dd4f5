// Adapters of a factored bundle: tensors by graph input, loaded when first used.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "array.h"
#include "files.h"
#include "manifest.h"

namespace edge_lra {

// Tensors in the order of the manifest's adapter inputs.
using AdapterTensors = std::shared_ptr<const std::vector<Array>>;

// The adapters of one bundle; safe from many threads. Refers to the manifest, which must live as
// long.
class AdapterStore {
 public:
    AdapterStore(fs::path folder, const Manifest& manifest, bool verify);

    // Throws Failure (INVALID_ARGUMENT), listing the known adapters, unless `name` is one of them.
    void check_name(const std::string& name) const;

    // What an adapter feeds the graph; without a name, factors of rank 0. A decoder's have the
    // leading axis of stacks, here of one. Throws Failure: INVALID_ARGUMENT, FOREIGN_ADAPTER,
    // DAMAGED, NOT_FOUND.
    AdapterTensors tensors(const std::optional<std::string>& name);

    // The same, read from the file, without keeping a copy.
    [[nodiscard]] AdapterTensors read(const std::string& name) const;

 private:
    [[nodiscard]] Array pick(const std::string& name, std::size_t place, const Arrays& tensors,
                             std::map<std::string, std::int64_t>& sizes) const;

    fs::path folder_;
    const Manifest& manifest_;
    bool verify_;
    AdapterTensors off_;
    std::mutex mutex_;
    std::list<std::pair<std::string, AdapterTensors>> loaded_;  // the last used one first
};

}  // namespace edge_lra
