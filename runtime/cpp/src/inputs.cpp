#include "inputs.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>

#include "failure.h"

namespace edge_lra {

namespace {

constexpr const char* ids_name = "input_ids";
constexpr const char* mask_name = "attention_mask";
constexpr const char* types_name = "token_type_ids";

// Call `use` with a pointer of the array's element type. Truth values are bytes.
template <class Use>
auto with_integers(const Array& array, Use use) {
    switch (array.dtype->id) {
        case EDGE_LRA_INT8:
            return use(array.as<std::int8_t>());
        case EDGE_LRA_INT16:
            return use(array.as<std::int16_t>());
        case EDGE_LRA_INT32:
            return use(array.as<std::int32_t>());
        case EDGE_LRA_INT64:
            return use(array.as<std::int64_t>());
        case EDGE_LRA_UINT16:
            return use(array.as<std::uint16_t>());
        case EDGE_LRA_UINT32:
            return use(array.as<std::uint32_t>());
        case EDGE_LRA_UINT64:
            return use(array.as<std::uint64_t>());
        default:
            return use(array.as<std::uint8_t>());
    }
}

template <class To>
void convert(const Array& from, std::byte* to) {
    auto* target = reinterpret_cast<To*>(to);
    with_integers(from, [&](const auto* source) {
        std::transform(source, source + from.count(), target,
                       [](auto value) { return static_cast<To>(value); });
    });
}

bool fits(const Range& range, const DType& dtype) {
    const bool is_signed = dtype.id >= EDGE_LRA_INT8 && dtype.id <= EDGE_LRA_INT64;
    const auto bits = static_cast<unsigned>(8 * dtype.width);
    const std::uint64_t high = std::numeric_limits<std::uint64_t>::max() >> (64 - bits);
    const auto most = is_signed ? high >> 1U : high;
    const std::int64_t least = is_signed ? -static_cast<std::int64_t>(high >> 1U) - 1 : 0;
    return range.high <= most && (!range.has_negative || range.low >= least);
}

// The array with another integer dtype; itself where it has that one.
Array typed(const std::string& name, const Array& array, const DType& dtype) {
    if (array.dtype == &dtype) {
        return array;
    }
    const bool integers = array.dtype->kind != Kind::real && dtype.kind == Kind::integer;
    if (!integers || !fits(range_of(array), dtype)) {
        fail(EDGE_LRA_INVALID_ARGUMENT, name, ": found ", array.dtype->numpy,
             integers ? " with values that are too large" : "", ", expected ", dtype.numpy);
    }
    Fresh made = make_array(dtype, array.shape);
    switch (dtype.width) {  // of one width, signed and unsigned have the same bits
        case 1:
            convert<std::uint8_t>(array, made.data);
            break;
        case 2:
            convert<std::uint16_t>(array, made.data);
            break;
        case 4:
            convert<std::uint32_t>(array, made.data);
            break;
        default:
            convert<std::uint64_t>(array, made.data);
            break;
    }
    return std::move(made.array);
}

std::string names_of(const Manifest& manifest) {
    std::vector<std::string> names;
    for (const Node& node : manifest.inputs) {
        names.push_back(node.name);
    }
    return joined(names);
}

const Array* find_given(const std::vector<Named>& given, const std::string& name) {
    const auto found = std::find_if(given.begin(), given.end(),
                                    [&](const Named& one) { return one.name == name; });
    return found == given.end() ? nullptr : &found->array;
}

void check_names(const Manifest& manifest, const std::vector<Named>& given) {
    for (const Named& one : given) {
        const bool known = std::any_of(manifest.inputs.begin(), manifest.inputs.end(),
                                       [&](const Node& node) { return node.name == one.name; });
        const bool twice = find_given(given, one.name) != &one.array;
        if (!known || twice) {
            fail(EDGE_LRA_INVALID_ARGUMENT, "inputs: found ", in_quotes(one.name),
                 twice ? " twice" : "", ", expected ", names_of(manifest));
        }
    }
}

std::optional<std::size_t> place_of(const Manifest& manifest, const char* name) {
    for (std::size_t place = 0; place < manifest.inputs.size(); ++place) {
        if (manifest.inputs[place].name == name) {
            return place;
        }
    }
    return std::nullopt;
}

Array take(const Node& node, const std::vector<Named>& given, const Manifest& manifest) {
    if (const Array* found = find_given(given, node.name)) {
        return *found;
    }
    const Array* ids = find_given(given, ids_name);
    if (node.name == types_name && ids != nullptr) {
        return make_array(*node.dtype, ids->shape).array;
    }
    fail(EDGE_LRA_INVALID_ARGUMENT, "inputs: found no ", in_quotes(node.name), ", expected ",
         names_of(manifest));
}

void check_whole(const Array& ids, const Array& mask) {
    std::size_t zeros = 0;
    with_integers(mask, [&](const auto* values) {
        zeros = static_cast<std::size_t>(std::count(values, values + mask.count(), 0));
    });
    if (mask.shape != ids.shape || zeros != 0) {
        fail(EDGE_LRA_INVALID_ARGUMENT, mask_name, ": found ", listed(mask.shape), " with ",
             std::uint64_t{zeros}, " zeros, expected ", listed(ids.shape),
             " of ones; run rows of different lengths apart");
    }
}

}  // namespace

std::vector<Array> check_inputs(const Manifest& manifest, const std::vector<Named>& given) {
    check_names(manifest, given);
    std::vector<Array> arrays;
    AxisSizes sizes;
    for (const Node& node : manifest.inputs) {
        const Array found = take(node, given, manifest);
        check_shape(node.name, found.shape, node.shape, sizes);
        arrays.push_back(typed(node.name, found, *node.dtype));
    }
    const auto ids = place_of(manifest, ids_name);
    const auto mask = place_of(manifest, mask_name);
    if (manifest.decoder && ids && mask) {
        check_whole(arrays[*ids], arrays[*mask]);
    }
    if (ids && manifest.vocabulary_size && arrays[*ids].dtype->kind == Kind::integer) {
        check_ids(ids_name, arrays[*ids], *manifest.vocabulary_size);
    }
    const auto tokens = sizes.find("sequence");
    check_length(manifest, tokens == sizes.end() ? 0 : tokens->second);
    return arrays;
}

void check_shape(const std::string& name, const Shape& found, const std::vector<Axis>& expected,
                 AxisSizes& sizes) {
    std::vector<std::string> wanted;
    wanted.reserve(expected.size());
    for (const Axis& axis : expected) {
        wanted.push_back(axis.text());
    }
    if (found.size() != expected.size()) {
        fail(EDGE_LRA_INVALID_ARGUMENT, name, ": found ", std::uint64_t{found.size()}, " axes ",
             listed(found), ", expected [", joined(wanted), "]");
    }
    for (std::size_t place = 0; place < found.size(); ++place) {
        const Axis& axis = expected[place];
        const std::int64_t size = found[place];
        const std::int64_t want =
            axis.is_named() ? sizes.emplace(axis.name, size).first->second : axis.size;
        if (size != want || size < 1) {
            fail(EDGE_LRA_INVALID_ARGUMENT, name, ": found shape ", listed(found), ", expected ",
                 axis.text(), "=", want < 1 ? "at least 1" : std::to_string(want));
        }
    }
}

void check_length(const Manifest& manifest, std::int64_t tokens) {
    if (manifest.max_length && tokens > *manifest.max_length) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "inputs: found ", tokens, " tokens, expected at most ",
             *manifest.max_length, "; truncate them");
    }
}

Range range_of(const Array& array) {
    Range range{false, 0, 0};
    with_integers(array, [&](const auto* values) {
        using Element = std::remove_const_t<std::remove_pointer_t<decltype(values)>>;
        for (std::size_t i = 0; i < array.count(); ++i) {
            if constexpr (std::is_signed_v<Element>) {
                if (values[i] < 0) {
                    range.has_negative = true;
                    range.low = std::min<std::int64_t>(range.low, values[i]);
                    continue;
                }
            }
            range.high = std::max<std::uint64_t>(range.high, static_cast<std::uint64_t>(values[i]));
        }
    });
    return range;
}

void check_ids(const std::string& where, const Array& ids, std::int64_t size) {
    const Range range = range_of(ids);  // onnxruntime would take -1 for the last row
    if (range.has_negative || range.high >= static_cast<std::uint64_t>(size)) {
        fail(EDGE_LRA_INVALID_ARGUMENT, where, ": found ",
             range.has_negative ? std::to_string(range.low) : std::to_string(range.high),
             ", expected ids of 0 to ", size - 1);
    }
}

}  // namespace edge_lra
