#include "safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "failure.h"
#include "files.h"
#include "json.h"

namespace edge_lra {

namespace {

constexpr std::size_t prefix = 8;
constexpr std::uint64_t longest_header = 16U << 20U;

struct Entry {
    std::string name;
    const DType* dtype;
    Shape shape;
    std::uint64_t begin;
    std::uint64_t end;
};

[[noreturn]] void damaged(const std::string& where, const std::string& found) {
    fail(EDGE_LRA_DAMAGED, where, ": found ", found, ", expected a safetensors file");
}

std::uint64_t header_length(const Bytes& content, const std::string& where) {
    if (content.size() < prefix) {
        damaged(where, say(std::uint64_t{content.size()}, " bytes"));
    }
    std::uint64_t length = 0;
    for (std::size_t i = prefix; i-- > 0;) {
        length = length << 8U | std::to_integer<std::uint64_t>(content[i]);
    }
    if (length > longest_header || length > content.size() - prefix) {
        damaged(where, say("a header of ", length, " bytes in ", std::uint64_t{content.size()}));
    }
    return length;
}

std::vector<std::uint64_t> read_numbers(const Json& entry, const char* key,
                                        const std::string& where) {
    const auto found = entry.find(key);
    if (found == entry.end() || !found->is_array()) {
        damaged(where, say("no list of ", key));
    }
    std::vector<std::uint64_t> numbers;
    for (const Json& number : *found) {
        // Parsed without a sign: a negative number is another type.
        if (!number.is_number_unsigned()) {
            damaged(where, say(key, " that are no sizes"));
        }
        numbers.push_back(number.get<std::uint64_t>());
    }
    return numbers;
}

Entry read_entry(const std::string& name, const Json& value, const std::string& file) {
    const std::string where = say(file, ": ", in_quotes(name));
    if (!value.is_object()) {
        damaged(where, "no object");
    }
    const auto type = value.find("dtype");
    if (type == value.end() || !type->is_string()) {
        damaged(where, "no dtype");
    }
    const DType* dtype = find_safetensors(type->get_ref<const std::string&>());
    if (dtype == nullptr) {
        fail(EDGE_LRA_DAMAGED, where, ": found the dtype ",
             in_quotes(type->get_ref<const std::string&>()),
             ", expected floats, integers or BOOL of 8 to 64 bits");
    }
    Shape shape;
    for (const std::uint64_t size : read_numbers(value, "shape", where)) {
        shape.push_back(size > INT64_MAX ? -1 : static_cast<std::int64_t>(size));
    }
    const auto offsets = read_numbers(value, "data_offsets", where);
    const auto count = count_elements(shape, dtype->width);
    if (offsets.size() != 2 || !count || offsets[0] > offsets[1] ||
        offsets[1] - offsets[0] != *count * dtype->width) {
        damaged(where, "data_offsets that disagree with dtype and shape");
    }
    return {name, dtype, std::move(shape), offsets[0], offsets[1]};
}

std::vector<Entry> read_header(std::string_view text, const std::string& where) {
    const Json header = parse_json(text, where);
    if (!header.is_object()) {
        damaged(where, "a header that is no object");
    }
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.items()) {
        if (name != "__metadata__") {
            entries.push_back(read_entry(name, value, where));
        }
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    return entries;
}

// The tensor at its place, or a copy where that place is not aligned for the dtype.
Array make_view(const Entry& entry, const std::byte* data,
                const std::shared_ptr<const Bytes>& content) {
    const auto size = static_cast<std::size_t>(entry.end - entry.begin);
    if (reinterpret_cast<std::uintptr_t>(data) % entry.dtype->width == 0) {
        return {entry.dtype, entry.shape, data, size, content};
    }
    Fresh copy = make_array(*entry.dtype, entry.shape);
    std::memcpy(copy.data, data, size);
    return std::move(copy.array);
}

}  // namespace

Arrays parse_safetensors(const std::shared_ptr<const Bytes>& content, const std::string& where) {
    const std::uint64_t length = header_length(*content, where);
    const std::string_view text = as_text(*content).substr(prefix);
    const std::uint64_t start = prefix + length;
    std::uint64_t reached = 0;
    Arrays tensors;
    for (const Entry& entry : read_header(text.substr(0, length), where)) {
        if (entry.begin != reached || entry.end > content->size() - start) {
            damaged(say(where, ": ", in_quotes(entry.name)),
                    "bytes that overlap, lack or lie outside");
        }
        reached = entry.end;
        tensors.emplace(entry.name,
                        make_view(entry, content->data() + start + entry.begin, content));
    }
    if (reached != content->size() - start) {
        damaged(where, "bytes that belong to no tensor");
    }
    return tensors;
}

std::string write_safetensors(const Arrays& tensors) {
    Json header = Json::object();
    std::string data;
    for (const auto& [name, tensor] : tensors) {
        const std::size_t begin = data.size();
        data.append(reinterpret_cast<const char*>(tensor.data), tensor.size);
        header[name] = {{"dtype", tensor.dtype->safetensors},
                        {"shape", tensor.shape},
                        {"data_offsets", {begin, data.size()}}};
    }
    std::string text = write_json(header);
    text.append((prefix - text.size() % prefix) % prefix, ' ');  // as the format advises
    std::string file;
    for (std::size_t i = 0; i < prefix; ++i) {
        file += static_cast<char>(text.size() >> (8 * i) & 0xffU);
    }
    return file + text + data;
}

}  // namespace edge_lra
