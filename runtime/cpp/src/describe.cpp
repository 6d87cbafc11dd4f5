#include "describe.h"

namespace edge_lra {

namespace {

Json describe_nodes(const std::vector<Node>& nodes) {
    Json list = Json::array();
    for (const Node& node : nodes) {
        Json shape = Json::array();
        for (const Axis& axis : node.shape) {
            shape.push_back(axis.is_named() ? Json(axis.name) : Json(axis.size));
        }
        list.push_back({{"name", node.name}, {"dtype", node.dtype->numpy}, {"shape", shape}});
    }
    return list;
}

Json describe_labels(const Manifest& manifest) {
    Json labels = Json::object();
    labels[""] = or_null(manifest.labels);
    for (const ListedAdapter& adapter : manifest.adapters) {
        labels[adapter.name] = or_null(adapter.labels ? adapter.labels : manifest.labels);
    }
    return labels;
}

}  // namespace

Json describe(const Runner& runner) {
    const Manifest& manifest = runner.manifest();
    Json decoder = nullptr;
    if (manifest.decoder) {
        decoder = {{"context", runner.context()},
                   {"bos_token_id", or_null(manifest.decoder->bos_token_id)},
                   {"eos_token_ids", manifest.decoder->eos_token_ids}};
    }
    return {{"name", manifest.name},
            {"task", manifest.task},
            {"problem_type",
             manifest.problem_type.empty() ? Json(nullptr) : Json(manifest.problem_type)},
            {"mode", manifest.mode},
            {"inputs", describe_nodes(manifest.inputs)},
            {"outputs", describe_nodes(manifest.outputs)},
            {"adapters", manifest.adapter_names()},
            {"default_adapter", or_null(runner.default_adapter())},
            {"labels", describe_labels(manifest)},
            {"max_length", or_null(manifest.max_length)},
            {"vocabulary_size", or_null(manifest.vocabulary_size)},
            {"decoder", std::move(decoder)},
            {"onnxruntime", runner.session().library().version()}};
}

}  // namespace edge_lra
