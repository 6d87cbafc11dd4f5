#include "cases.h"

#include <cstring>
#include <limits>

#include "failure.h"
#include "safetensors.h"
#include "session.h"

namespace edge_lra {

CaseCounts check_integers(const fs::path& folder, const OpenOptions& options) {
    constexpr auto any_size = std::numeric_limits<std::ptrdiff_t>::max();
    const fs::path model = folder / "integers.onnx";
    const fs::path file = folder / "integers.safetensors";
    const Library& library = Library::load(options.ort_library);
    const Session session(library,
                          {folder, model, read_file(model, any_size), {}, options.threads});
    const Arrays tensors = parse_safetensors(read_file(file, any_size), text_of(file));
    const auto tensor = [&](const std::string& name) {
        const auto found = tensors.find(name);
        if (found == tensors.end()) {
            fail(EDGE_LRA_DAMAGED, text_of(file), ": found no ", in_quotes(name));
        }
        return found->second;
    };
    std::vector<Named> feeds;
    for (const std::string& name : session.input_names()) {
        feeds.push_back({name, tensor(name)});
    }
    const std::vector<std::string> names = session.output_names();
    const std::vector<Value> values = Prepared(session, std::move(feeds), names).run();
    CaseCounts counts{names.size(), 0, library.version()};
    for (std::size_t place = 0; place < names.size(); ++place) {
        const Array found = session.view(names[place], *values[place]);
        const Array expected = tensor(names[place]);
        const bool is_exact = found.dtype == expected.dtype && found.shape == expected.shape &&
                              std::memcmp(found.data, expected.data, found.size) == 0;
        counts.exact += is_exact ? 1 : 0;
    }
    return counts;
}

}  // namespace edge_lra
