// One onnxruntime session, and the values that go in and come out.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "array.h"
#include "files.h"
#include "library.h"

namespace edge_lra {

using Value = Owned<OrtValue>;

struct SessionRequest {
    fs::path folder;
    fs::path graph;                      // the file of the model, inside the folder
    std::shared_ptr<const Bytes> bytes;  // its content where it was read already; else null
    std::vector<std::pair<std::string, std::string>> options;
    int threads = 0;  // 0: onnxruntime's choice
};

class Session {
 public:
    // Throws Failure: RUNTIME, DAMAGED, OUT_OF_MEMORY.
    Session(const Library& library, const SessionRequest& request);

    [[nodiscard]] const Library& library() const { return library_; }
    [[nodiscard]] OrtSession& handle() const { return *session_; }
    [[nodiscard]] std::vector<std::string> input_names() const;
    [[nodiscard]] std::vector<std::string> output_names() const;

    // A value over an array's memory, which must live as long.
    [[nodiscard]] Value wrap(const Array& array) const;
    // What a run gave, as an array over its memory. Throws Failure for what is no tensor.
    [[nodiscard]] Array view(const std::string& name, OrtValue& value) const;

    // Throws Failure (RUNTIME, OUT_OF_MEMORY). Safe from many threads.
    [[nodiscard]] std::vector<Value> run(const std::vector<const char*>& input_names,
                                         const std::vector<const OrtValue*>& inputs,
                                         const std::vector<const char*>& output_names) const;

 private:
    using NameGetter = OrtStatus*(ORT_API_CALL*)(const OrtSession*, size_t, OrtAllocator*, char**);
    [[nodiscard]] std::vector<std::string> names(std::size_t count, NameGetter get) const;

    const Library& library_;
    std::string where_;
    Owned<OrtSession> session_;
};

}  // namespace edge_lra
