#include "bundle.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <system_error>
#include <vector>

#include "failure.h"
#include "model_files.h"
#include "sha256.h"
#include "stamp.h"

namespace edge_lra {

namespace {

constexpr const char* onnx_name = "model.onnx";
constexpr const char* ort_name = "model.ort";
// What onnxruntime takes for an address in memory, even where there is such a file.
constexpr const char* memory_name = "*/_ORT_MEM_ADDR_/*";
constexpr std::uint64_t largest_read = 64U << 20U;

class Memory : public Source {
 public:
    explicit Memory(const Bytes& bytes) : bytes_(bytes) {}
    [[nodiscard]] std::uint64_t size() const override { return bytes_.size(); }
    const std::uint8_t* read(std::uint64_t offset, std::size_t /*count*/) override {
        return reinterpret_cast<const std::uint8_t*>(bytes_.data()) + offset;
    }

 private:
    const Bytes& bytes_;
};

// A file, of which a window is in memory.
class Window : public Source {
 public:
    explicit Window(const fs::path& file)
        : size_(size_of(file).value_or(0)),
          stream_(file, std::ios::binary),
          where_(text_of(file)) {}

    [[nodiscard]] std::uint64_t size() const override { return size_; }

    const std::uint8_t* read(std::uint64_t offset, std::size_t count) override {
        if (offset < start_ || offset + count > start_ + window_.size()) {
            window_.resize(
                static_cast<std::size_t>(std::min<std::uint64_t>(width, size_ - offset)));
            stream_.seekg(static_cast<std::streamoff>(offset));
            stream_.read(reinterpret_cast<char*>(window_.data()),
                         static_cast<std::streamsize>(window_.size()));
            if (!stream_) {
                fail(EDGE_LRA_DAMAGED, where_, ": found it cut while it was read");
            }
            start_ = offset;
        }
        return reinterpret_cast<const std::uint8_t*>(window_.data()) + (offset - start_);
    }

 private:
    static constexpr std::uint64_t width = 64U << 10U;
    std::uint64_t size_;
    std::ifstream stream_;
    std::string where_;
    std::uint64_t start_ = 0;
    Bytes window_;
};

void check_sizes(const fs::path& folder, const Manifest& manifest) {
    for (const auto& [name, entry] : manifest.files) {
        const fs::path file = resolve(folder, name);
        const auto size = size_of(file);
        if (size != entry.size) {
            fail(size ? EDGE_LRA_DAMAGED : EDGE_LRA_NOT_FOUND, text_of(file),
                 ": found it missing or cut, expected ", entry.size, " bytes");
        }
    }
}

void check_hashes(const fs::path& folder, const Manifest& manifest, const Graph& graph) {
    for (const auto& [name, entry] : manifest.files) {
        const fs::path file = folder / path_of(name);
        const std::string digest = graph.bytes && name == graph.name
                                       ? sha256(graph.bytes->data(), graph.bytes->size())
                                       : sha256_file(file);
        if (digest != entry.sha256) {
            fail(EDGE_LRA_DAMAGED, text_of(file),
                 ": is damaged, found other bytes than were exported; export again");
        }
    }
}

void check_externals(const fs::path& folder, const Manifest& manifest, const Graph& graph) {
    if (graph.name != onnx_name) {
        return;  // the ORT format is flatbuffers: what onnxruntime writes has no external data
    }
    const fs::path file = folder / onnx_name;
    const std::string where = text_of(file);
    std::unique_ptr<Source> source;
    if (graph.bytes) {
        source = std::make_unique<Memory>(*graph.bytes);
    } else {
        source = std::make_unique<Window>(file);
    }
    for (const std::string& name : external_files(*source, where)) {
        if (manifest.find_file(name) == nullptr || name == memory_name) {
            fail(EDGE_LRA_DAMAGED, where, ": found weights in ", in_quotes(name),
                 ", expected a file that the manifest lists; export again");
        }
        (void)resolve(folder, name);  // onnxruntime follows links
    }
}

}  // namespace

std::string graph_name(const Manifest& manifest, const fs::path& folder) {
    for (const char* name : {onnx_name, ort_name}) {
        if (manifest.find_file(name) != nullptr) {
            return name;
        }
    }
    fail(EDGE_LRA_DAMAGED, text_of(folder), ": found no ", onnx_name, " and no ", ort_name,
         " in the manifest, expected one; export again");
}

Graph check_bundle(const fs::path& folder, const Manifest& manifest, edge_lra_verify verify,
                   const fs::path& stamps) {
    Graph graph{graph_name(manifest, folder), nullptr};
    if (verify != EDGE_LRA_VERIFY_NEVER) {
        check_sizes(folder, manifest);
    }
    const fs::path file = resolve(folder, graph.name);
    if (size_of(file).value_or(0) <= largest_read) {
        graph.bytes = read_file(file, largest_read);
    }
    if (verify != EDGE_LRA_VERIFY_NEVER) {
        const Stamp stamp(folder, manifest, stamps);
        if (verify == EDGE_LRA_VERIFY_ALWAYS || !stamp.is_there()) {
            check_hashes(folder, manifest, graph);
            stamp.write();
        }
    }
    check_externals(folder, manifest, graph);
    return graph;
}

}  // namespace edge_lra
