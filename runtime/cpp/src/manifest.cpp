#include "manifest.h"

#include <algorithm>
#include <limits>

#include "entries.h"
#include "failure.h"
#include "json.h"
#include "sha256.h"

namespace edge_lra {

namespace {

constexpr const char* manifest_name = "manifest.json";
constexpr std::uint64_t largest_manifest = 16U << 20U;
constexpr std::int64_t format = 1;
constexpr std::string_view seal_start = "{\n \"sha256\": \"";
constexpr std::size_t digest_length = 64;
constexpr std::int64_t any = std::numeric_limits<std::int64_t>::max();
// Far above any model's; products of a few of them do not overflow.
constexpr std::int64_t many = std::int64_t{1} << 24;

// Whether the first entry is the digest of the file with zeros in that digest's place.
bool is_sealed(std::string_view bytes) {
    const std::size_t end = seal_start.size() + digest_length;
    if (bytes.size() < end || bytes.substr(0, seal_start.size()) != seal_start) {
        return false;
    }
    const std::string zeros(digest_length, '0');
    Sha256 digest;
    digest.update(bytes.data(), seal_start.size());
    digest.update(zeros.data(), zeros.size());
    digest.update(bytes.data() + end, bytes.size() - end);
    return bytes.substr(seal_start.size(), digest_length) == digest.hex();
}

void check_kind(const Json& document, std::string_view bytes, const std::string& where) {
    const auto has = [&](const char* key) { return document.contains(key); };
    if (!document.is_object() || !has("format_version") || !has("files") ||
        !has("base_fingerprint") || !document.at("files").is_object()) {
        fail(EDGE_LRA_DAMAGED, where, ": found another kind of file, expected a bundle's manifest");
    }
    const Json& found = document.at("format_version");
    if (!found.is_number_integer() || found != format) {
        fail(EDGE_LRA_UNSUPPORTED, where, ": found bundle format ", write_json(found),
             ", expected ", format, "; use the edge-lra that wrote it, or export again");
    }
    if (!is_sealed(bytes)) {
        fail(EDGE_LRA_DAMAGED, where,
             ": is damaged, found other bytes than were exported; export again");
    }
}

void check_inside(const std::string& name, const std::string& where) {
    if (!is_inside(name)) {
        fail(EDGE_LRA_DAMAGED, where, ": found ", in_quotes(name),
             ", expected files inside the bundle");
    }
}

Axis read_axis(const Json& value, const Entries& node) {
    if (value.is_string() && !value.get_ref<const std::string&>().empty()) {
        return {0, value.get<std::string>()};
    }
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t{any}) {
        node.damaged("shape", "sizes and names of axes");
    }
    return {value.get<std::int64_t>(), ""};
}

std::vector<Node> read_nodes(const Entries& document, const char* key) {
    std::vector<Node> nodes;
    for (const Json& value : document.list(key)) {
        const Entries entry(value, say(document.where(), ": ", key));
        Node node{
            entry.text("name"), find_numpy(entry.text("dtype")), {}, entry.numbers("example")};
        if (node.dtype == nullptr) {
            fail(EDGE_LRA_UNSUPPORTED, entry.where(), ": ", in_quotes(node.name), ": found dtype ",
                 in_quotes(entry.text("dtype")), ", expected a number's or bool");
        }
        for (const Json& axis : entry.list("shape")) {
            node.shape.push_back(read_axis(axis, entry));
        }
        if (!node.example.empty() && node.example.size() != node.shape.size()) {
            entry.damaged("example", "a size for each axis");
        }
        const auto role = entry.optional_text("role");
        node.is_head = role == "weight" || role == "bias";
        nodes.push_back(std::move(node));
    }
    return nodes;
}

std::vector<std::pair<std::string, ListedFile>> read_files(const Entries& document) {
    std::vector<std::pair<std::string, ListedFile>> files;
    for (const auto& [name, value] : document.object("files")) {
        check_inside(name, document.where());
        const Entries entry(value, say(document.where(), ": files: ", in_quotes(name)));
        const auto size = static_cast<std::uint64_t>(entry.number("size", 0, any));
        files.emplace_back(name, ListedFile{size, entry.text("sha256")});
    }
    return files;
}

std::vector<ListedAdapter> read_adapters(const Entries& document) {
    std::vector<ListedAdapter> adapters;
    for (const auto& [name, value] : document.object("adapters")) {
        const Entries entry(value, say(document.where(), ": adapters: ", in_quotes(name)));
        adapters.push_back(
            {name, entry.text("file"), entry.text("base"), entry.optional_texts("labels")});
        check_inside(adapters.back().file, document.where());
    }
    return adapters;
}

std::vector<std::pair<std::string, std::string>> read_options(const Entries& document) {
    std::vector<std::pair<std::string, std::string>> options;
    for (const auto& [key, value] : document.object("session_options")) {
        if (value.is_boolean()) {
            options.emplace_back(key, value.get<bool>() ? "1" : "0");
        } else if (value.is_string()) {
            options.emplace_back(key, value.get<std::string>());
        } else if (value.is_number()) {
            options.emplace_back(key, write_json(value));
        } else {
            document.damaged("session_options", "texts, numbers and truth values");
        }
    }
    return options;
}

std::optional<Decoder> read_decoder(const Entries& document) {
    const Json* found = document.find("decoder");
    if (found == nullptr) {
        return std::nullopt;
    }
    const Entries entry(*found, say(document.where(), ": decoder"));
    Decoder decoder{{},
                    entry.number("kv_heads", 1, many),
                    entry.number("head_size", 1, many),
                    entry.number("context_length", 2, many),
                    entry.optional_text("adapter_index").value_or(""),
                    entry.numbers("eos_token_ids"),
                    entry.optional_number("bos_token_id", 0, any)};
    for (const Json& value : entry.list("cache")) {
        const Entries pair(value, say(entry.where(), ": cache"));
        decoder.cache.emplace_back(pair.text("past"), pair.text("present"));
    }
    if (decoder.cache.empty()) {
        entry.damaged("cache", "keys and values of at least one layer");
    }
    return decoder;
}

Golden read_golden_entry(const Entries& document) {
    Golden golden;
    const Json* found = document.find("golden");
    if (found == nullptr) {
        return golden;
    }
    const Entries entry(*found, say(document.where(), ": golden"));
    for (const Json& adapter : entry.list("adapters")) {
        if (!adapter.is_null() && !adapter.is_string()) {
            entry.damaged("adapters", "names and nulls");
        }
        golden.adapters.push_back(adapter.is_null() ? std::nullopt
                                                    : std::optional(adapter.get<std::string>()));
    }
    if (const Json* spread = entry.find("kernel_spread")) {
        if (!spread->is_number() || spread->get<double>() < 0) {
            entry.damaged("kernel_spread", "a number that is not negative");
        }
        golden.kernel_spread = spread->get<double>();
    }
    return golden;
}

void read_texts(const Entries& document, Manifest& manifest) {
    const auto text = [&](const char* key) { return document.optional_text(key).value_or(""); };
    manifest.name = text("name");
    manifest.task = text("task");
    manifest.problem_type = text("problem_type");
    manifest.mode = text("mode");
    manifest.head = text("head");
    manifest.scheme = text("scheme");
    manifest.base_fingerprint = document.text("base_fingerprint");
    manifest.min_onnxruntime = text("min_onnxruntime");
    manifest.default_adapter = document.optional_text("default_adapter");
    manifest.labels = document.optional_texts("labels");
}

void check_decoder(const Manifest& manifest, const Entries& document) {
    const auto takes = [&](const char* name) {
        return std::any_of(manifest.inputs.begin(), manifest.inputs.end(), [&](const Node& node) {
            return node.name == name && node.dtype->id == EDGE_LRA_INT64 && node.shape.size() == 2;
        });
    };
    if (!takes("input_ids") || !takes("attention_mask") || !manifest.vocabulary_size) {
        document.damaged("decoder", "input_ids, attention_mask and a vocabulary_size beside it");
    }
    if (!manifest.adapter_inputs.empty() && manifest.decoder->adapter_index.empty()) {
        document.damaged("decoder", "an adapter_index beside adapter_inputs");
    }
}

}  // namespace

const ListedFile* Manifest::find_file(std::string_view file) const {
    const auto found = std::find_if(files.begin(), files.end(),
                                    [&](const auto& entry) { return entry.first == file; });
    return found == files.end() ? nullptr : &found->second;
}

const ListedAdapter* Manifest::find_adapter(std::string_view adapter) const {
    const auto found = std::find_if(adapters.begin(), adapters.end(),
                                    [&](const auto& entry) { return entry.name == adapter; });
    return found == adapters.end() ? nullptr : &*found;
}

std::vector<std::string> Manifest::adapter_names() const {
    std::vector<std::string> names;
    names.reserve(adapters.size());
    for (const ListedAdapter& adapter : adapters) {
        names.push_back(adapter.name);
    }
    return names;
}

std::vector<std::string> Manifest::graph_inputs() const {
    std::vector<std::string> names;
    for (const auto* nodes : {&inputs, &adapter_inputs}) {
        for (const Node& node : *nodes) {
            names.push_back(node.name);
        }
    }
    if (decoder) {
        for (const auto& [past, present] : decoder->cache) {
            names.push_back(past);
        }
        if (!decoder->adapter_index.empty()) {
            names.push_back(decoder->adapter_index);
        }
    }
    return names;
}

Manifest read_manifest(const fs::path& folder) {
    const fs::path file = folder / manifest_name;
    if (!size_of(file)) {
        fail(EDGE_LRA_NOT_FOUND, text_of(folder), ": found no ", manifest_name,
             ", expected a bundle; export one");
    }
    return parse_manifest(as_text(*read_file(resolve(folder, manifest_name), largest_manifest)),
                          text_of(file));
}

Manifest parse_manifest(std::string_view bytes, const std::string& where) {
    const Json value = parse_json(bytes, where);
    check_kind(value, bytes, where);
    const Entries document(value, where);
    Manifest manifest;
    read_texts(document, manifest);
    manifest.vocabulary_size = document.optional_number("vocabulary_size", 1, any);
    manifest.max_length = document.optional_number("max_length", 1, any);
    manifest.inputs = read_nodes(document, "inputs");
    manifest.outputs = read_nodes(document, "outputs");
    manifest.adapter_inputs = read_nodes(document, "adapter_inputs");
    manifest.files = read_files(document);
    manifest.adapters = read_adapters(document);
    if (manifest.adapter_inputs.empty()) {
        manifest.adapters.clear();  // they are in the weights: there is none to choose
    }
    manifest.session_options = read_options(document);
    manifest.golden = read_golden_entry(document);
    if (const Json* tokenizer = document.find("tokenizer")) {
        check_inside(Entries(*tokenizer, say(where, ": tokenizer")).text("file"), where);
    }
    manifest.decoder = read_decoder(document);
    if (manifest.decoder) {
        check_decoder(manifest, document);
    }
    if (manifest.inputs.empty() || manifest.outputs.empty()) {
        document.damaged(manifest.inputs.empty() ? "inputs" : "outputs", "a list");
    }
    return manifest;
}

}  // namespace edge_lra
