#include "options.h"

#include <charconv>
#include <cmath>
#include <functional>
#include <map>

#include "failure.h"

namespace edge_lra {

const char* const help_text =
    R"(Usage: edge-lra-run VERB [OPTIONS] BUNDLE

Run an edge-lra bundle with onnxruntime on the CPU.

Verbs:
  run         Run the tensors of --input; print or write the outputs.
  verify      Hash the files and run the golden vectors; exit code 3 if they fail.
  profile     Measure latency, loading and memory.
  generate    Go on from --prompt-ids with the likeliest tokens.
  cases       Run integers.onnx in the folder BUNDLE; exit code 3 unless all are exact.

Options:
  --ort LIB             libonnxruntime; default: ONNXRUNTIME_LIB, else the usual names
  --adapter NAME        default: the bundle's; of profile, else the first
  --no-adapter          run and generate: with the adapters off
  --threads N           within an operator; default: onnxruntime's choice
  --verify WHEN         hash the files once, always or never; profile: never
  --json                print one JSON document
run:
  --input FILE          safetensors with the inputs by name
  --output FILE         write the outputs as safetensors
generate:
  --prompt-ids N,N,...  token ids; --max-tokens N [64]; --stop-ids N,N,... or none
  --context N           the most tokens of prompt and text
profile:
  --shape BxS           texts and tokens of each [1x128]
  --runs N              timed runs [as many as the median needs]
  --warmup N            runs before them [2]
  --budget-s S          no new run after so long, once there are 5 [5]
  --context N           of a language model: time the token behind N others
  --switch              time choosing another adapter

Exit codes: 0 done, 1 a mistake to fix, 2 usage, 3 a check failed.
)";

namespace {

// One number, all of the text.
template <class T>
std::optional<T> parse(const std::string& text) {
    T value{};
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    return error == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

[[noreturn]] void refuse(const std::string& option, const std::string& text, const char* expected) {
    throw Usage(say(option, ": found ", in_quotes(text), ", expected ", expected));
}

std::int64_t read_count(const std::string& option, const std::string& text, std::int64_t least) {
    const auto value = parse<std::int64_t>(text);
    if (!value || *value < least) {
        refuse(option, text, least == 0 ? "a whole number" : "a whole number of 1 or more");
    }
    return *value;
}

std::vector<std::int64_t> read_ids(const std::string& option, const std::string& text) {
    std::vector<std::int64_t> ids;
    for (std::size_t start = 0; start <= text.size();) {
        const std::size_t end = std::min(text.find(',', start), text.size());
        const auto id = parse<std::int64_t>(text.substr(start, end - start));
        if (!id) {
            refuse(option, text, "token ids such as 1,2,3");
        }
        ids.push_back(*id);
        start = end + 1;
    }
    return ids;
}

Batch read_shape(const std::string& option, const std::string& text) {
    const std::size_t middle = text.find('x');
    const std::int64_t rows = parse<std::int64_t>(text.substr(0, middle)).value_or(0);
    const std::int64_t tokens =
        middle == text.npos ? 0 : parse<std::int64_t>(text.substr(middle + 1)).value_or(0);
    if (rows < 1 || tokens < 1) {
        refuse(option, text, "texts and tokens such as 1x128");
    }
    return {rows, tokens};
}

// from_chars of doubles is missing from older C++ libraries of phones.
double read_seconds(const std::string& option, const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !std::isfinite(value) || value < 0) {
        refuse(option, text, "seconds");
    }
    return value;
}

edge_lra_verify read_verify(const std::string& option, const std::string& text) {
    const std::map<std::string, edge_lra_verify> known{{"once", EDGE_LRA_VERIFY_ONCE},
                                                       {"always", EDGE_LRA_VERIFY_ALWAYS},
                                                       {"never", EDGE_LRA_VERIFY_NEVER}};
    const auto found = known.find(text);
    if (found == known.end()) {
        refuse(option, text, "once, always or never");
    }
    return found->second;
}

using Take = std::function<void(Command&, const std::string& option, const std::string& text)>;

struct Option {
    std::string verbs;  // those that know it; empty for all
    bool has_value;
    Take take;
};

using Options = std::map<std::string, Option>;
using Text = const std::string&;

Options common_options() {
    return {
        {"--ort", {"", true, [](Command& c, Text, Text v) { c.open.ort_library = v; }}},
        {"--adapter", {"", true, [](Command& c, Text, Text v) { c.adapter = v; }}},
        {"--no-adapter",
         {"run generate", false, [](Command& c, Text, Text) { c.no_adapter = true; }}},
        {"--threads",
         {"", true,
          [](Command& c, Text o, Text v) {
              const std::int64_t count = read_count(o, v, 1);
              c.open.threads = static_cast<int>(std::min<std::int64_t>(count, INT32_MAX));
          }}},
        {"--verify",
         {"", true, [](Command& c, Text o, Text v) { c.open.verify = read_verify(o, v); }}},
        {"--json", {"", false, [](Command& c, Text, Text) { c.is_json = true; }}},
        {"--input", {"run", true, [](Command& c, Text, Text v) { c.input = v; }}},
        {"--output", {"run", true, [](Command& c, Text, Text v) { c.output = v; }}},
    };
}

Options generate_options() {
    return {
        {"--prompt-ids",
         {"generate", true, [](Command& c, Text o, Text v) { c.prompt = read_ids(o, v); }}},
        {"--max-tokens",
         {"generate", true,
          [](Command& c, Text o, Text v) { c.max_tokens = read_count(o, v, 1); }}},
        {"--stop-ids",
         {"generate", true,
          [](Command& c, Text o, Text v) {
              c.stop_tokens = v == "none" ? std::vector<std::int64_t>() : read_ids(o, v);
          }}},
        {"--context",
         {"generate profile", true,
          [](Command& c, Text o, Text v) {
              const std::int64_t count = read_count(o, v, 1);
              (c.verb == "profile" ? c.profile.context.emplace() : c.open.context) = count;
          }}},
    };
}

Options profile_options() {
    return {
        {"--shape",
         {"profile", true, [](Command& c, Text o, Text v) { c.profile.batch = read_shape(o, v); }}},
        {"--runs",
         {"profile", true,
          [](Command& c, Text o, Text v) { c.profile.plan.runs = read_count(o, v, 1); }}},
        {"--warmup",
         {"profile", true,
          [](Command& c, Text o, Text v) { c.profile.plan.warmup = read_count(o, v, 0); }}},
        {"--budget-s",
         {"profile", true,
          [](Command& c, Text o, Text v) { c.profile.plan.budget_s = read_seconds(o, v); }}},
        {"--switch",
         {"profile", false, [](Command& c, Text, Text) { c.profile.measure_switch = true; }}},
    };
}

const Options& known_options() {
    static const Options known = [] {
        Options all = common_options();
        all.merge(generate_options());
        all.merge(profile_options());
        return all;
    }();
    return known;
}

const Option& find_option(const std::string& name, const std::string& verb) {
    const auto found = known_options().find(name);
    if (found == known_options().end()) {
        throw Usage(say("found the option ", in_quotes(name), ", expected one of --help"));
    }
    const std::string& verbs = found->second.verbs;
    if (!verbs.empty() && (" " + verbs + " ").find(" " + verb + " ") == verbs.npos) {
        throw Usage(say(name, ": is no option of ", verb, ", but of ", verbs));
    }
    return found->second;
}

}  // namespace

Command read_command(const std::vector<std::string>& words) {
    const std::string verbs = " run verify profile generate cases ";
    Command command;
    if (words.empty() || verbs.find(" " + words[0] + " ") == verbs.npos) {
        throw Usage(say("found ", words.empty() ? std::string("no verb") : in_quotes(words[0]),
                        ", expected one of run, verify, profile, generate, cases"));
    }
    command.verb = words[0];
    bool is_over = false;  // behind "--" stand no options
    for (std::size_t place = 1; place < words.size(); ++place) {
        const std::string& word = words[place];
        if (!is_over && word == "--") {
            is_over = true;
        } else if (is_over || word.compare(0, 2, "--") != 0) {
            if (!command.place.empty()) {
                throw Usage(say("found ", in_quotes(word), " behind ", in_quotes(command.place),
                                ", expected one bundle"));
            }
            command.place = word;
        } else {
            const std::size_t equals = word.find('=');
            const std::string name = word.substr(0, equals);
            const Option& option = find_option(name, command.verb);
            const bool is_joined = equals != word.npos;
            if (option.has_value && !is_joined && place + 1 == words.size()) {
                throw Usage(say(name, ": found no value"));
            }
            if (!option.has_value && is_joined) {
                throw Usage(say(name, ": takes no value"));
            }
            option.take(command, name,
                        is_joined          ? word.substr(equals + 1)
                        : option.has_value ? words[++place]
                                           : "");
        }
    }
    if (command.place.empty()) {
        throw Usage("found no bundle, expected its folder");
    }
    return command;
}

}  // namespace edge_lra
