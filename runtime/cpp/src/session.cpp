#include "session.h"

#include <onnxruntime_session_options_config_keys.h>

#include "failure.h"

namespace edge_lra {

namespace {

// The first release that was seen to find weights beside a graph from memory; 1.20 does not.
constexpr const char* weights_beside_memory = "1.23.0";

Owned<OrtSessionOptions> make_options(const Library& library, const SessionRequest& request,
                                      const std::string& where) {
    const OrtApi& api = library.api();
    OrtSessionOptions* made = nullptr;
    library.check(api.CreateSessionOptions(&made), where);
    Owned<OrtSessionOptions> options(made, api.ReleaseSessionOptions);
    // What fails is told by its status; nothing is printed besides.
    library.check(api.SetSessionLogSeverityLevel(made, ORT_LOGGING_LEVEL_FATAL), where);
    library.check(api.SetInterOpNumThreads(made, 1), where);
    if (request.threads > 0) {
        library.check(api.SetIntraOpNumThreads(made, request.threads), where);
    }
    for (const auto& [key, value] : request.options) {
        library.check(api.AddSessionConfigEntry(made, key.c_str(), value.c_str()), where);
    }
    if (request.bytes) {
        library.check(api.AddSessionConfigEntry(
                          made, kOrtSessionOptionsModelExternalInitializersFileFolderPath,
                          text_of(request.folder).c_str()),
                      where);
    }
    return options;
}

}  // namespace

Session::Session(const Library& library, const SessionRequest& request)
    : library_(library),
      where_(text_of(request.folder)),
      session_(nullptr, library.api().ReleaseSession) {
    const std::string where = say(where_, ": onnxruntime cannot open it");
    const auto options = make_options(library, request, where);
    OrtSession* made = nullptr;
    if (request.bytes && library.is_at_least(weights_beside_memory)) {
        library.check(
            library.api().CreateSessionFromArray(&library.env(), request.bytes->data(),
                                                 request.bytes->size(), options.get(), &made),
            where);
    } else {
        library.check(library.api().CreateSession(&library.env(), request.graph.c_str(),
                                                  options.get(), &made),
                      where);
    }
    session_.reset(made);
}

std::vector<std::string> Session::names(std::size_t count, NameGetter get) const {
    OrtAllocator* allocator = nullptr;
    library_.check(library_.api().GetAllocatorWithDefaultOptions(&allocator), where_);
    std::vector<std::string> found;
    for (std::size_t place = 0; place < count; ++place) {
        char* name = nullptr;
        library_.check(get(session_.get(), place, allocator, &name), where_);
        found.emplace_back(name);
        library_.check(library_.api().AllocatorFree(allocator, name), where_);
    }
    return found;
}

std::vector<std::string> Session::input_names() const {
    std::size_t count = 0;
    library_.check(library_.api().SessionGetInputCount(session_.get(), &count), where_);
    return names(count, library_.api().SessionGetInputName);
}

std::vector<std::string> Session::output_names() const {
    std::size_t count = 0;
    library_.check(library_.api().SessionGetOutputCount(session_.get(), &count), where_);
    return names(count, library_.api().SessionGetOutputName);
}

Value Session::wrap(const Array& array) const {
    // onnxruntime refuses a null pointer for no values too. It never writes to an input.
    alignas(8) static std::byte nothing[8];
    void* data = array.size != 0 ? const_cast<std::byte*>(array.data) : nothing;
    OrtValue* made = nullptr;
    library_.check(library_.api().CreateTensorWithDataAsOrtValue(
                       &library_.memory(), data, array.size, array.shape.data(), array.shape.size(),
                       static_cast<ONNXTensorElementDataType>(array.dtype->onnx), &made),
                   where_);
    return {made, library_.api().ReleaseValue};
}

Array Session::view(const std::string& name, OrtValue& value) const {
    const OrtApi& api = library_.api();
    OrtTensorTypeAndShapeInfo* info = nullptr;
    library_.check(api.GetTensorTypeAndShape(&value, &info), where_);
    const Owned<OrtTensorTypeAndShapeInfo> owned(info, api.ReleaseTensorTypeAndShapeInfo);
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    library_.check(api.GetTensorElementType(info, &type), where_);
    Array array;
    array.dtype = find_onnx(type);
    if (array.dtype == nullptr) {
        fail(EDGE_LRA_UNSUPPORTED, where_, ": ", in_quotes(name),
             ": found an output of another kind, ", "expected numbers or truth values");
    }
    std::size_t rank = 0;
    library_.check(api.GetDimensionsCount(info, &rank), where_);
    array.shape.resize(rank);
    library_.check(api.GetDimensions(info, array.shape.data(), rank), where_);
    void* data = nullptr;
    library_.check(api.GetTensorMutableData(&value, &data), where_);
    array.data = static_cast<const std::byte*>(data);
    array.size = count_elements(array.shape, array.dtype->width).value_or(0) * array.dtype->width;
    return array;
}

std::vector<Value> Session::run(const std::vector<const char*>& input_names,
                                const std::vector<const OrtValue*>& inputs,
                                const std::vector<const char*>& output_names) const {
    std::vector<OrtValue*> found(output_names.size(), nullptr);
    OrtStatus* status =
        library_.api().Run(session_.get(), nullptr, input_names.data(), inputs.data(),
                           inputs.size(), output_names.data(), output_names.size(), found.data());
    std::vector<Value> outputs;
    outputs.reserve(found.size());
    for (OrtValue* value : found) {
        outputs.emplace_back(value, library_.api().ReleaseValue);
    }
    if (status != nullptr) {
        library_.check(status, say(where_, ": the run failed"));
    }
    return outputs;
}

}  // namespace edge_lra
