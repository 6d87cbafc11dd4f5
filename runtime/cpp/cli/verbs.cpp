#include "verbs.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>

#include "cases.h"
#include "failure.h"
#include "floats.h"
#include "generate.h"
#include "golden.h"
#include "safetensors.h"

namespace edge_lra {

namespace {

void print(const std::string& text) {
    (void)std::printf("%s\n", text.c_str());
}

void print_json(const Json& value) {
    print(write_json(value, 1));
}

AdapterChoice choice_of(const Command& command) {
    if (command.no_adapter) {
        return AdapterChoice::of(std::nullopt);
    }
    return command.adapter ? AdapterChoice::of(command.adapter) : AdapterChoice();
}

std::vector<Named> read_inputs(const std::string& file) {
    if (file.empty()) {
        throw Usage("--input: found none, expected a safetensors file");
    }
    const auto content = read_file(path_of(file), std::numeric_limits<std::ptrdiff_t>::max());
    std::vector<Named> inputs;
    for (auto& [name, array] : parse_safetensors(content, file)) {
        inputs.push_back({name, array});
    }
    return inputs;
}

// Values of integers as such, of others as float32.
Json values_of(const Array& array) {
    if (array.dtype->id == EDGE_LRA_INT64) {
        return std::vector<std::int64_t>(array.as<std::int64_t>(),
                                         array.as<std::int64_t>() + array.count());
    }
    return to_floats(array);
}

}  // namespace

int run_tensors(const Command& command) {
    const std::vector<Named> inputs = read_inputs(command.input);
    Runner runner(path_of(command.place), command.open);
    const Outputs outputs = runner.run(inputs, choice_of(command));
    if (!command.output.empty()) {
        Arrays arrays;
        for (const Named& output : outputs.arrays) {
            arrays.emplace(output.name, output.array);
        }
        write_file(path_of(command.output), write_safetensors(arrays));
    }
    Json found = Json::object();
    for (const Named& output : outputs.arrays) {
        const Array& array = output.array;
        found[output.name] = {{"dtype", array.dtype->numpy}, {"shape", array.shape}};
        if (command.output.empty()) {
            found[output.name]["values"] = values_of(array);
        }
        if (!command.is_json) {
            print(say(output.name, " ", array.dtype->numpy, listed(array.shape),
                      command.output.empty() ? " " + write_json(values_of(array)) : ""));
        }
    }
    if (command.is_json) {
        print_json({{"outputs", std::move(found)}});
    }
    return done;
}

int verify_bundle(const Command& command) {
    OpenOptions open = command.open;
    open.verify = EDGE_LRA_VERIFY_ALWAYS;
    Runner runner(path_of(command.place), open);
    for (const ListedAdapter& adapter : runner.manifest().adapters) {
        (void)runner.adapters().read(adapter.name);
    }
    const Comparison found = check_golden(runner);
    if (command.is_json) {
        print_json({{"cases", found.cases},
                    {"max_abs_error", found.max_abs_error},
                    {"max_abs_error_float", found.max_abs_error_float},
                    {"recorded_error_float", found.recorded_error_float},
                    {"allowed_error_float", found.allowed_error_float()},
                    {"decided", found.decided},
                    {"agreed", found.agreed},
                    {"onnxruntime", runner.session().library().version()}});
    } else {
        print(say(std::uint64_t{found.cases}, " golden cases: ", found.max_abs_error,
                  " from those at export, ", found.max_abs_error_float,
                  " from the float model (allowed ", found.allowed_error_float(), "), ",
                  std::uint64_t{found.agreed}, " of ", std::uint64_t{found.decided},
                  " clear answers agree"));
    }
    require_faithful(runner, found);
    return done;
}

int profile_bundle(const Command& command) {
    ProfileOptions options = command.profile;
    options.adapter = command.adapter;
    OpenOptions open = command.open;
    open.verify = EDGE_LRA_VERIFY_NEVER;  // as the agent: a profile is of running, not of hashing
    Watch watch;
    const auto start = std::chrono::steady_clock::now();
    (void)Library::load(open.ort_library);
    watch.imported(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    std::unique_ptr<Runner> runner;
    {
        const Sampler sampler(watch.timeline);
        runner = std::make_unique<Runner>(path_of(command.place), open);
        watch.loaded();
    }
    const Json answer = profile(*runner, options, watch);
    if (command.is_json) {
        print(write_json(answer));
        return done;
    }
    const Json& summary = answer.at("summary");
    const auto ms = [&](const char* name) { return summary.at(name).get<double>(); };
    print(say("p50 ", ms("p50_ms"), " ms, p90 ", ms("p90_ms"), ", p95 ", ms("p95_ms"), ", p99 ",
              ms("p99_ms"), ", min ", ms("min_ms"), ", mean ", ms("mean_ms"), " of ",
              summary.at("runs").get<std::uint64_t>(), " runs; loaded in ",
              answer.at("load_s").get<double>() * 1e3, " ms, first run ",
              answer.at("first_run_ms").get<double>(), " ms"));
    return done;
}

int generate_tokens(const Command& command) {
    if (command.prompt.empty()) {
        throw Usage("--prompt-ids: found none, expected token ids such as 1,2,3");
    }
    Runner runner(path_of(command.place), command.open);
    const Generation found =
        generate(runner, command.prompt,
                 {choice_of(command), command.max_tokens, command.stop_tokens, nullptr});
    const char* stopped = found.stopped_by == EDGE_LRA_STOP_TOKEN ? "stop_token" : "max_tokens";
    if (command.is_json) {
        print_json({{"tokens", found.tokens},
                    {"prompt_tokens", command.prompt.size()},
                    {"stopped_by", stopped},
                    {"prefill_s", found.prefill_s},
                    {"decode_s", found.decode_s}});
        return done;
    }
    std::string line = listed(found.tokens);
    print(line.substr(1, line.size() - 2));
    return done;
}

int run_cases(const Command& command) {
    const CaseCounts found = check_integers(path_of(command.place), command.open);
    if (command.is_json) {
        print_json(
            {{"cases", found.cases}, {"exact", found.exact}, {"onnxruntime", found.onnxruntime}});
    } else {
        print(say(std::uint64_t{found.exact}, " of ", std::uint64_t{found.cases},
                  " integer products are exact"));
    }
    if (found.exact != found.cases || found.cases == 0) {
        fail(EDGE_LRA_GATE_FAILED, command.place, ": found ",
             std::uint64_t{found.cases - found.exact}, " of ", std::uint64_t{found.cases},
             " integer products that differ, expected all alike; do not use this onnxruntime here");
    }
    return done;
}

}  // namespace edge_lra
