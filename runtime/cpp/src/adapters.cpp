#include "adapters.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "failure.h"
#include "safetensors.h"
#include "sha256.h"

namespace edge_lra {

namespace {

constexpr const char* stacked = "adapters";  // the leading axis of inputs that hold several
constexpr std::size_t kept = 32;  // a reload costs 0.2-2 ms; a thousand must not stay in memory

bool is_stacked(const Node& node) {
    return !node.shape.empty() && node.shape.front().name == stacked;
}

// The shape of one adapter's tensor, as its file has it.
std::vector<Axis> own_shape(const Node& node) {
    return {node.shape.begin() + (is_stacked(node) ? 1 : 0), node.shape.end()};
}

// The tensor as the graph takes it.
Array as_input(const Node& node, Array tensor) {
    if (is_stacked(node)) {
        tensor.shape.insert(tensor.shape.begin(), 1);
    }
    return tensor;
}

Array off_tensor(const Node& node) {
    Shape shape;
    for (const Axis& axis : own_shape(node)) {
        shape.push_back(axis.is_named() ? 0 : axis.size);
    }
    return as_input(node, make_array(*node.dtype, std::move(shape)).array);
}

std::string shape_text(const std::vector<Axis>& shape) {
    std::vector<std::string> sizes;
    sizes.reserve(shape.size());
    for (const Axis& axis : shape) {
        sizes.push_back(axis.text());
    }
    return say("[", joined(sizes), "]");
}

void check_unknown(const std::string& name, const Arrays& tensors, const Manifest& manifest) {
    for (const auto& entry : tensors) {
        const auto& inputs = manifest.adapter_inputs;
        if (std::none_of(inputs.begin(), inputs.end(),
                         [&](const Node& node) { return node.name == entry.first; })) {
            fail(EDGE_LRA_DAMAGED, "adapter ", name, ": the graph has no input ",
                 in_quotes(entry.first), "; export it for this base");
        }
    }
}

}  // namespace

AdapterStore::AdapterStore(fs::path folder, const Manifest& manifest, bool verify)
    : folder_(std::move(folder)), manifest_(manifest), verify_(verify) {
    auto off = std::make_shared<std::vector<Array>>();
    for (const Node& node : manifest.adapter_inputs) {
        off->push_back(off_tensor(node));
    }
    off_ = std::move(off);
}

void AdapterStore::check_name(const std::string& name) const {
    if (manifest_.find_adapter(name) != nullptr) {
        return;
    }
    const std::string known = joined(manifest_.adapter_names());
    fail(EDGE_LRA_INVALID_ARGUMENT, "adapter: found ", in_quotes(name),
         ", expected one of: ", known.empty() ? "none" : known,
         manifest_.adapter_inputs.empty() ? say(" (the bundle is ", manifest_.mode, ")") : "");
}

AdapterTensors AdapterStore::tensors(const std::optional<std::string>& name) {
    if (!name) {
        if (!manifest_.adapter_inputs.empty() && manifest_.head == "adapter") {
            fail(EDGE_LRA_INVALID_ARGUMENT,
                 "adapter: found none, expected one of: ", joined(manifest_.adapter_names()),
                 "; the base has no trained head");
        }
        return off_;
    }
    check_name(*name);
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(loaded_.begin(), loaded_.end(),
                                    [&](const auto& entry) { return entry.first == *name; });
    if (found != loaded_.end()) {
        loaded_.splice(loaded_.begin(), loaded_, found);
    } else {
        loaded_.emplace_front(*name, read(*name));
        if (loaded_.size() > kept) {
            loaded_.pop_back();
        }
    }
    return loaded_.front().second;
}

AdapterTensors AdapterStore::read(const std::string& name) const {
    check_name(name);
    const ListedAdapter& entry = *manifest_.find_adapter(name);
    if (entry.base != manifest_.base_fingerprint) {
        fail(EDGE_LRA_FOREIGN_ADAPTER, "adapter ", name, ": is foreign: found base ",
             entry.base.substr(0, 12), ", expected ", manifest_.base_fingerprint.substr(0, 12),
             "; export it for this base");
    }
    const fs::path file = resolve(folder_, entry.file);
    const auto content = read_file(file, std::numeric_limits<std::ptrdiff_t>::max());
    const ListedFile* listed = manifest_.find_file(entry.file);
    if (verify_ &&
        (listed == nullptr || sha256(content->data(), content->size()) != listed->sha256)) {
        fail(EDGE_LRA_DAMAGED, "adapter ", name,
             ": its file changed since export; export it again");
    }
    const Arrays tensors = parse_safetensors(content, say("adapter ", name, ": ", text_of(file)));
    check_unknown(name, tensors, manifest_);
    auto picked = std::make_shared<std::vector<Array>>();
    std::map<std::string, std::int64_t> sizes;
    for (std::size_t place = 0; place < manifest_.adapter_inputs.size(); ++place) {
        picked->push_back(pick(name, place, tensors, sizes));
    }
    return picked;
}

Array AdapterStore::pick(const std::string& name, std::size_t place, const Arrays& tensors,
                         std::map<std::string, std::int64_t>& sizes) const {
    const Node& node = manifest_.adapter_inputs[place];
    const std::vector<Axis> shape = own_shape(node);
    const auto found = tensors.find(node.name);
    if (found == tensors.end()) {
        if ((*off_)[place].size != 0 || node.is_head) {
            fail(EDGE_LRA_DAMAGED, "adapter ", name, ": found no ", node.name, ", expected shape ",
                 shape_text(shape), "; export it again");
        }
        return (*off_)[place];  // the adapter leaves this site alone
    }
    const Array& tensor = found->second;
    bool is_fit = tensor.dtype == node.dtype && tensor.shape.size() == shape.size();
    for (std::size_t axis = 0; is_fit && axis < shape.size(); ++axis) {
        const std::int64_t size = tensor.shape[axis];
        is_fit =
            size == (shape[axis].is_named() ? sizes.emplace(shape[axis].name, size).first->second
                                            : shape[axis].size);
    }
    if (!is_fit) {
        fail(EDGE_LRA_DAMAGED, "adapter ", name, ": ", node.name, ": found ", tensor.dtype->numpy,
             listed(tensor.shape), ", expected ", node.dtype->numpy, shape_text(shape),
             "; export it for this base");
    }
    return as_input(node, tensor);
}

}  // namespace edge_lra
