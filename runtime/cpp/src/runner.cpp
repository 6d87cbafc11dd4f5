#include "runner.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "bundle.h"
#include "failure.h"
#include "memory.h"

namespace edge_lra {

namespace {

constexpr int most_threads = 1024;

void check_options(const OpenOptions& options, const Manifest& manifest) {
    if (options.threads < 0 || options.threads > most_threads) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "threads: found ", options.threads, ", expected 1 to ",
             most_threads, ", or 0 for onnxruntime's choice");
    }
    if (options.verify < EDGE_LRA_VERIFY_ONCE || options.verify > EDGE_LRA_VERIFY_NEVER) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "verify: found ", int{options.verify},
             ", expected once, always or never");
    }
    if (options.context == 0) {
        return;
    }
    if (!manifest.decoder) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "context: found ", options.context,
             " for a bundle that generates no text, expected a language model's bundle");
    }
    const std::int64_t longest = manifest.decoder->context_length;
    if (options.context < 2 || options.context > longest) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "context: found ", options.context, ", expected 2 to ",
             longest);
    }
}

std::vector<std::string> output_names(const Manifest& manifest) {
    std::vector<std::string> names;
    for (const Node& node : manifest.outputs) {
        names.push_back(node.name);
    }
    return names;
}

}  // namespace

AdapterChoice AdapterChoice::of(const std::optional<std::string>& name) {
    return name ? AdapterChoice{EDGE_LRA_ADAPTER_NAMED, *name}
                : AdapterChoice{EDGE_LRA_ADAPTER_NONE, ""};
}

Prepared::Prepared(const Session& session, std::vector<Named> feeds,
                   std::vector<std::string> outputs)
    : session_(session), feeds_(std::move(feeds)), outputs_(std::move(outputs)) {
    for (const Named& feed : feeds_) {
        values_.push_back(session.wrap(feed.array));
        input_names_.push_back(feed.name.c_str());
        inputs_.push_back(values_.back().get());
    }
    for (const std::string& name : outputs_) {
        output_names_.push_back(name.c_str());
    }
}

std::vector<Value> Prepared::run() const {
    return session_.run(input_names_, inputs_, output_names_);
}

Runner::Runner(fs::path folder, const OpenOptions& options) : folder_(std::move(folder)) {
    const auto start = std::chrono::steady_clock::now();
    manifest_ = read_manifest(folder_);
    check_options(options, manifest_);
    const Library& library = Library::load(options.ort_library);
    if (!manifest_.min_onnxruntime.empty()) {
        library.require(manifest_.min_onnxruntime, text_of(folder_));
    }
    const Graph graph = check_bundle(folder_, manifest_, options.verify, options.stamps);
    check_memory(folder_, manifest_);
    session_ = std::make_unique<Session>(
        library, SessionRequest{folder_, folder_ / graph.name, graph.bytes,
                                manifest_.session_options, options.threads});
    check_graph();
    adapters_ =
        std::make_unique<AdapterStore>(folder_, manifest_, options.verify != EDGE_LRA_VERIFY_NEVER);
    if (manifest_.decoder) {
        context_ = options.context != 0 ? options.context : manifest_.decoder->context_length;
    }
    set_adapter(manifest_.adapters.empty() ? std::nullopt : manifest_.default_adapter);
    load_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Runner::check_graph() const {
    const auto sorted = [](const std::vector<std::string>& names) {
        return std::set<std::string>(names.begin(), names.end());
    };
    const auto disagree = [&](const char* what, const std::vector<std::string>& odd) {
        if (!odd.empty()) {
            fail(EDGE_LRA_DAMAGED, text_of(folder_), ": graph and manifest disagree on ", what,
                 ": ", joined(odd));
        }
    };
    const auto inputs = sorted(session_->input_names());
    const auto expected = sorted(manifest_.graph_inputs());
    std::vector<std::string> odd;
    std::set_symmetric_difference(inputs.begin(), inputs.end(), expected.begin(), expected.end(),
                                  std::back_inserter(odd));
    disagree("inputs", odd);
    std::vector<std::string> wanted = output_names(manifest_);
    if (manifest_.decoder) {
        for (const auto& [past, present] : manifest_.decoder->cache) {
            wanted.push_back(present);
        }
    }
    const auto outputs = sorted(session_->output_names());
    const auto needed = sorted(wanted);
    std::set_difference(needed.begin(), needed.end(), outputs.begin(), outputs.end(),
                        std::back_inserter(odd));
    disagree("outputs", odd);
}

void Runner::set_adapter(const std::optional<std::string>& name) {
    if (name) {
        adapters_->check_name(*name);
    }
    const std::lock_guard lock(mutex_);
    default_ = name;
}

std::optional<std::string> Runner::default_adapter() const {
    const std::lock_guard lock(mutex_);
    return default_;
}

std::optional<std::string> Runner::chosen(const AdapterChoice& choice) const {
    switch (choice.kind) {
        case EDGE_LRA_ADAPTER_DEFAULT:
            return default_adapter();
        case EDGE_LRA_ADAPTER_NONE:
            return std::nullopt;
        case EDGE_LRA_ADAPTER_NAMED:
            return choice.name;
        default:
            fail(EDGE_LRA_INVALID_ARGUMENT, "choice: found ", int{choice.kind},
                 ", expected default, none or named");
    }
}

Prepared Runner::prepare(const std::vector<Named>& inputs, const AdapterChoice& choice) {
    const AdapterTensors adapter = adapters_->tensors(chosen(choice));
    std::vector<Array> arrays = check_inputs(manifest_, inputs);
    const Shape& first = arrays.front().shape;
    std::vector<Named> feeds = other_feeds(manifest_, first.empty() ? 1 : first.front(), *adapter);
    for (std::size_t place = 0; place < arrays.size(); ++place) {
        feeds.push_back({manifest_.inputs[place].name, std::move(arrays[place])});
    }
    return {*session_, std::move(feeds), output_names(manifest_)};
}

Outputs Runner::run(const std::vector<Named>& inputs, const AdapterChoice& choice) {
    const Prepared prepared = prepare(inputs, choice);
    Outputs outputs{prepared.run(), {}};
    for (std::size_t place = 0; place < outputs.values.size(); ++place) {
        const std::string& name = prepared.output_names()[place];
        outputs.arrays.push_back({name, session_->view(name, *outputs.values[place])});
    }
    return outputs;
}

std::vector<Named> other_feeds(const Manifest& manifest, std::int64_t rows,
                               const std::vector<Array>& adapter) {
    std::vector<Named> feeds;
    for (std::size_t place = 0; place < adapter.size(); ++place) {
        feeds.push_back({manifest.adapter_inputs[place].name, adapter[place]});
    }
    if (!manifest.decoder) {
        return feeds;
    }
    const Decoder& decoder = *manifest.decoder;
    const Array empty =
        make_array(*find_dtype(EDGE_LRA_FLOAT32), {rows, decoder.kv_heads, 0, decoder.head_size})
            .array;
    for (const auto& [past, present] : decoder.cache) {
        feeds.push_back({past, empty});
    }
    if (!decoder.adapter_index.empty()) {
        feeds.push_back(
            {decoder.adapter_index, make_array(*find_dtype(EDGE_LRA_INT64), {rows}).array});
    }
    return feeds;
}

}  // namespace edge_lra
