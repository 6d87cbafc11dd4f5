#include "arguments.h"

namespace edge_lra {

namespace {

constexpr std::size_t most_tensors = 4096;
constexpr std::size_t most_axes = 64;
constexpr std::size_t most_ids = std::size_t{1} << 24;  // as many as a manifest's context_length

Named read_tensor(const edge_lra_tensor& tensor) {
    const std::string name = &require(tensor.name, "inputs: name");
    Array array;
    array.dtype = find_dtype(tensor.dtype);
    if (array.dtype == nullptr) {
        fail(EDGE_LRA_INVALID_ARGUMENT, name, ": found dtype ", int{tensor.dtype},
             ", expected one of edge_lra_dtype");
    }
    if (tensor.rank > most_axes) {
        fail(EDGE_LRA_INVALID_ARGUMENT, name, ": found ", std::uint64_t{tensor.rank},
             " axes, expected at most ", std::uint64_t{most_axes});
    }
    if (tensor.rank != 0) {
        const std::int64_t* shape = &require(tensor.shape, "inputs: shape");
        array.shape.assign(shape, shape + tensor.rank);
    }
    const auto count = count_elements(array.shape, array.dtype->width);
    if (!count || *count * array.dtype->width != tensor.size) {
        fail(EDGE_LRA_INVALID_ARGUMENT, name, ": found ", std::uint64_t{tensor.size},
             " bytes, expected those of ", array.dtype->numpy, listed(array.shape));
    }
    if (tensor.size != 0) {
        array.data = static_cast<const std::byte*>(static_cast<const void*>(
            &require(static_cast<const char*>(tensor.data), name.c_str())));
    }
    if (reinterpret_cast<std::uintptr_t>(array.data) % array.dtype->width != 0) {
        fail(EDGE_LRA_INVALID_ARGUMENT, name, ": found data that is not aligned for ",
             array.dtype->numpy, "; copy it to an array of that type");
    }
    array.size = tensor.size;
    return {name, std::move(array)};
}

}  // namespace

std::string text_or_empty(const char* text) {
    return text != nullptr ? text : "";
}

AdapterChoice read_choice(edge_lra_adapter_choice kind, const char* name) {
    if (kind == EDGE_LRA_ADAPTER_NAMED) {
        return {kind, &require(name, "adapter")};
    }
    return {kind, ""};
}

std::vector<Named> read_tensors(const edge_lra_tensor* tensors, std::size_t count) {
    if (count > most_tensors) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "inputs: found ", std::uint64_t{count},
             ", expected at most ", std::uint64_t{most_tensors});
    }
    std::vector<Named> inputs;
    for (std::size_t place = 0; place < count; ++place) {
        inputs.push_back(read_tensor((&require(tensors, "inputs"))[place]));
    }
    return inputs;
}

std::vector<std::int64_t> read_ids(const std::int64_t* ids, std::size_t count, const char* name) {
    const std::int64_t* first = &require(ids, name);
    if (count > most_ids) {
        fail(EDGE_LRA_INVALID_ARGUMENT, name, ": found ", std::uint64_t{count},
             " ids, expected at most ", std::uint64_t{most_ids});
    }
    return {first, first + count};
}

edge_lra_tensor as_tensor(const Named& named) {
    return {named.name.c_str(),       named.array.dtype->id, named.array.shape.size(),
            named.array.shape.data(), named.array.data,      named.array.size};
}

}  // namespace edge_lra
