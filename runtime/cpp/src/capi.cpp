// The C interface: handles to objects, exceptions to codes and lines.
#include <cstdlib>
#include <cstring>
#include <new>

#include "arguments.h"
#include "describe.h"
#include "edge_lra.h"
#include "generate.h"
#include "golden.h"
#include "handles.h"
#include "json.h"
#include "profile.h"
#include "runner.h"

namespace {

using namespace edge_lra;  // NOLINT(google-build-using-namespace): this file is its C face

// Neither is ever destroyed: a thread may still call while the process ends.
Handles<Runner>& runners() {
    static auto& handles = *new Handles<Runner>("runner");
    return handles;
}

Handles<Outputs>& all_outputs() {
    static auto& handles = *new Handles<Outputs>("outputs");
    return handles;
}

std::string& last_line() {
    thread_local std::string line;
    return line;
}

edge_lra_code note(edge_lra_code code, const char* line) noexcept {
    try {
        last_line() = line;
    } catch (...) {
        last_line().clear();
    }
    return code;
}

// Do the work; turn what it throws into a code and this thread's line.
template <class Work>
edge_lra_code guarded(Work work) noexcept {
    try {
        work();
        return EDGE_LRA_OK;
    } catch (const Failure& failure) {
        return note(failure.code(), failure.what());
    } catch (const std::bad_alloc&) {
        return note(EDGE_LRA_OUT_OF_MEMORY, "memory: found none left; free some");
    } catch (const std::exception& error) {
        return note(EDGE_LRA_RUNTIME, error.what());
    } catch (...) {
        return note(EDGE_LRA_RUNTIME, "runtime: found an unknown failure");
    }
}

char* copy_text(const std::string& text) {
    char* copy = static_cast<char*>(std::malloc(text.size() + 1));
    if (copy == nullptr) {
        throw std::bad_alloc();
    }
    std::memcpy(copy, text.c_str(), text.size() + 1);
    return copy;
}

OpenOptions read_open_options(const edge_lra_open_options* given) {
    const edge_lra_open_options options = read_options(given);
    OpenOptions read;
    read.ort_library = text_or_empty(options.ort_library);
    read.threads = options.threads;
    read.verify = options.verify;
    read.stamps = path_of(text_or_empty(options.stamp_folder));
    read.context = options.context;
    return read;
}

ProfileOptions read_profile_options(const edge_lra_profile_options* given) {
    const edge_lra_profile_options options = read_options(given);
    ProfileOptions read;
    read.batch = {options.batch == 0 ? 1 : options.batch, options.tokens};
    if (options.context != 0) {
        read.context = options.context;
    }
    if (options.runs != 0) {
        read.plan.runs = options.runs;
    }
    read.plan.budget_s = options.budget_s == 0 ? read.plan.budget_s : options.budget_s;
    read.plan.warmup = options.warmup == 0  ? read.plan.warmup
                       : options.warmup < 0 ? 0
                                            : options.warmup;
    if (options.choice == EDGE_LRA_ADAPTER_NAMED) {
        read.adapter = read_choice(options.choice, options.adapter).name;
    } else if (options.choice != EDGE_LRA_ADAPTER_DEFAULT) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "choice: found ", int{options.choice},
             ", expected default or named");
    }
    read.measure_switch = options.measure_switch != 0;
    return read;
}

GenerateOptions read_generate_options(const edge_lra_generate_options* given,
                                      std::size_t max_tokens) {
    const edge_lra_generate_options options = read_options(given);
    GenerateOptions read;
    read.adapter = read_choice(options.choice, options.adapter);
    read.max_tokens = static_cast<std::int64_t>(std::min<std::size_t>(max_tokens, INT32_MAX));
    if (options.stop_tokens != nullptr) {
        read.stop_tokens = read_ids(options.stop_tokens, options.stop_count, "stop_tokens");
    }
    if (options.on_token != nullptr) {
        read.on_token = [on_token = options.on_token, context = options.context](
                            std::int64_t token) { return on_token(token, context) == 0; };
    }
    return read;
}

}  // namespace

uint32_t edge_lra_abi_version(void) {
    return EDGE_LRA_ABI_VERSION;
}

const char* edge_lra_version(void) {
    return EDGE_LRA_VERSION;
}

const char* edge_lra_last_error(void) {
    return last_line().c_str();
}

const char* edge_lra_code_name(edge_lra_code code) {
    return code_name(code);
}

edge_lra_code edge_lra_open(const char* folder, const edge_lra_open_options* options,
                            edge_lra_runner* runner) {
    return guarded([&] {
        edge_lra_runner& target = require(runner, "runner");
        target = 0;
        const fs::path path = path_of(&require(folder, "folder"));
        target = runners().add(std::make_shared<Runner>(path, read_open_options(options)));
    });
}

edge_lra_code edge_lra_close(edge_lra_runner runner) {
    return guarded([&] { runners().remove(runner); });
}

edge_lra_code edge_lra_set_adapter(edge_lra_runner runner, const char* name) {
    return guarded([&] {
        runners().get(runner)->set_adapter(name != nullptr ? std::optional<std::string>(name)
                                                           : std::nullopt);
    });
}

edge_lra_code edge_lra_describe(edge_lra_runner runner, char** json) {
    return guarded(
        [&] { require(json, "json") = copy_text(write_json(describe(*runners().get(runner)))); });
}

edge_lra_code edge_lra_run(edge_lra_runner runner, const edge_lra_tensor* inputs, size_t count,
                           const edge_lra_run_options* options, edge_lra_outputs* outputs) {
    return guarded([&] {
        edge_lra_outputs& target = require(outputs, "outputs");
        target = 0;
        const auto open = runners().get(runner);
        const edge_lra_run_options chosen = read_options(options);
        auto found = std::make_shared<Outputs>(
            open->run(read_tensors(inputs, count), read_choice(chosen.choice, chosen.adapter)));
        target = all_outputs().add(std::move(found));
    });
}

size_t edge_lra_outputs_count(edge_lra_outputs outputs) {
    size_t count = 0;
    guarded([&] { count = all_outputs().get(outputs)->arrays.size(); });
    return count;
}

edge_lra_code edge_lra_outputs_get(edge_lra_outputs outputs, size_t place,
                                   edge_lra_tensor* tensor) {
    return guarded([&] {
        const auto found = all_outputs().get(outputs);
        if (place >= found->arrays.size()) {
            fail(EDGE_LRA_INVALID_ARGUMENT, "outputs: found place ", std::uint64_t{place},
                 ", expected 0 to ", std::uint64_t{found->arrays.size()} - 1);
        }
        require(tensor, "tensor") = as_tensor(found->arrays[place]);
    });
}

edge_lra_code edge_lra_outputs_find(edge_lra_outputs outputs, const char* name,
                                    edge_lra_tensor* tensor) {
    return guarded([&] {
        const auto found = all_outputs().get(outputs);
        const std::string wanted = &require(name, "name");
        std::vector<std::string> names;
        for (const Named& named : found->arrays) {
            if (named.name == wanted) {
                require(tensor, "tensor") = as_tensor(named);
                return;
            }
            names.push_back(named.name);
        }
        fail(EDGE_LRA_INVALID_ARGUMENT, "outputs: found ", in_quotes(wanted), ", expected one of ",
             joined(names));
    });
}

edge_lra_code edge_lra_outputs_close(edge_lra_outputs outputs) {
    return guarded([&] { all_outputs().remove(outputs); });
}

edge_lra_code edge_lra_generate(edge_lra_runner runner, const int64_t* prompt, size_t prompt_count,
                                size_t max_tokens, const edge_lra_generate_options* options,
                                int64_t* tokens, edge_lra_generation* generation) {
    return guarded([&] {
        const auto open = runners().get(runner);
        const Result result(generation);
        int64_t* target = &require(tokens, "tokens");
        const Generation found = generate(*open, read_ids(prompt, prompt_count, "prompt"),
                                          read_generate_options(options, max_tokens));
        std::copy(found.tokens.begin(), found.tokens.end(), target);
        result.write({0, found.tokens.size(), found.stopped_by, found.prefill_s, found.decode_s});
    });
}

edge_lra_code edge_lra_verify_golden(edge_lra_runner runner, edge_lra_golden* golden) {
    return guarded([&] {
        const auto open = runners().get(runner);
        const Result result(golden);
        const Comparison found = check_golden(*open);
        result.write({0, found.cases, found.max_abs_error, found.max_abs_error_float,
                      found.recorded_error_float, found.allowed_error_float(), found.decided,
                      found.agreed});
        require_faithful(*open, found);
    });
}

edge_lra_code edge_lra_profile(edge_lra_runner runner, const edge_lra_profile_options* options,
                               char** json) {
    return guarded([&] {
        const auto open = runners().get(runner);
        char*& target = require(json, "json");
        Watch watch;
        watch.loaded();
        target = copy_text(write_json(profile(*open, read_profile_options(options), watch)));
    });
}

void edge_lra_free_text(char* text) {
    std::free(text);
}
