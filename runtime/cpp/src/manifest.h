// A bundle's manifest.json, as far as a runner needs it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "array.h"
#include "files.h"

namespace edge_lra {

// A size, or the name of an axis of any size.
struct Axis {
    std::int64_t size = 0;
    std::string name;

    [[nodiscard]] bool is_named() const { return !name.empty(); }
    [[nodiscard]] std::string text() const { return is_named() ? name : std::to_string(size); }
};

struct Node {
    std::string name;
    const DType* dtype;
    std::vector<Axis> shape;
    Shape example;         // sizes of a batch that a traced model takes; empty for others
    bool is_head = false;  // an adapter input that is a task's head, which cannot be off
};

struct ListedFile {
    std::uint64_t size;
    std::string sha256;
};

struct ListedAdapter {
    std::string name;
    std::string file;
    std::string base;
    std::optional<std::vector<std::string>> labels;
};

// How to feed a language model's cache.
struct Decoder {
    std::vector<std::pair<std::string, std::string>> cache;  // past and present
    std::int64_t kv_heads;
    std::int64_t head_size;
    std::int64_t context_length;
    std::string adapter_index;  // empty for a merged bundle
    std::vector<std::int64_t> eos_token_ids;
    std::optional<std::int64_t> bos_token_id;
};

struct Golden {
    std::vector<std::optional<std::string>> adapters;  // of each case
    double kernel_spread = 0;
};

struct Manifest {
    std::string name;
    std::string task;
    std::string problem_type;
    std::string mode;
    std::string head;
    std::string scheme;
    std::string base_fingerprint;
    std::string min_onnxruntime;
    std::optional<std::string> default_adapter;
    std::optional<std::vector<std::string>> labels;
    std::optional<std::int64_t> vocabulary_size;
    std::optional<std::int64_t> max_length;
    std::vector<Node> inputs;
    std::vector<Node> outputs;
    std::vector<Node> adapter_inputs;
    std::vector<ListedAdapter> adapters;  // none unless there are adapter inputs
    std::vector<std::pair<std::string, std::string>> session_options;
    std::vector<std::pair<std::string, ListedFile>> files;
    std::optional<Decoder> decoder;
    Golden golden;

    [[nodiscard]] const ListedFile* find_file(std::string_view file) const;
    [[nodiscard]] const ListedAdapter* find_adapter(std::string_view adapter) const;
    [[nodiscard]] std::vector<std::string> adapter_names() const;
    // The graph's inputs: those of the manifest, of adapters and of the cache.
    [[nodiscard]] std::vector<std::string> graph_inputs() const;
};

// Throws Failure: NOT_FOUND for a folder without manifest.json, else as parse_manifest.
Manifest read_manifest(const fs::path& folder);

// Throws Failure, whose line begins with `where`: DAMAGED for what is no manifest of a bundle, for
// a broken seal and for names outside of the folder, UNSUPPORTED for another format.
Manifest parse_manifest(std::string_view bytes, const std::string& where);

}  // namespace edge_lra
