#include "golden.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cache.h"
#include "failure.h"
#include "floats.h"
#include "generate.h"
#include "safetensors.h"

namespace edge_lra {

namespace {

constexpr const char* golden_name = "golden.safetensors";
// int8 roundings may flip between CPUs' float kernels; the float model is the judge then.
constexpr double slack = 1.5;
constexpr double rounding = 1e-4;  // of float32 in a bundle without int8
// Outputs whose largest entry is the answer.
constexpr const char* choices[] = {"logits", "start_logits", "end_logits"};

// What a run answered to a case; `next` are tokens, each found after the recorded ones.
struct Answer {
    std::map<std::string, std::vector<float>> outputs;
    std::vector<std::int64_t> next;
};

// The larger one; not a number, once there was none.
void raise(double& worst, double value) {
    worst = std::isnan(value) || std::isnan(worst) ? std::numeric_limits<double>::quiet_NaN()
                                                   : std::max(worst, value);
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        raise(worst, std::fabs(a[i] - b[i]));
    }
    return worst;
}

Arrays with_prefix(const Arrays& tensors, const std::string& prefix) {
    Arrays found;
    for (auto it = tensors.lower_bound(prefix); it != tensors.end(); ++it) {
        if (it->first.compare(0, prefix.size(), prefix) != 0) {
            break;
        }
        found.emplace(it->first.substr(prefix.size()), it->second);
    }
    return found;
}

void check_case(const GoldenCase& one, const std::string& where) {
    bool is_whole = !one.inputs.empty() && !one.outputs.empty() &&
                    one.outputs.size() == one.exact.size() &&
                    one.tokens.size() == one.margins.size();
    for (const auto& [name, value] : one.outputs) {
        const auto exact = one.exact.find(name);
        is_whole = is_whole && exact != one.exact.end() && exact->second.shape == value.shape;
    }
    if (!is_whole) {
        fail(EDGE_LRA_DAMAGED, where, ": found a case without its inputs or answers; export again");
    }
}

Answer run_prompt(Runner& runner, const GoldenCase& one, const AdapterTensors& adapter) {
    const auto prompt = one.inputs.find("input_ids");
    if (prompt == one.inputs.end() || prompt->second.dtype->id != EDGE_LRA_INT64 ||
        prompt->second.shape.size() != 2 || prompt->second.shape[0] != 1) {
        fail(EDGE_LRA_DAMAGED, golden_name, ": found no prompt, expected input_ids [1, tokens]");
    }
    const std::int64_t vocabulary = *runner.manifest().vocabulary_size;
    Cache cache(runner, 1, adapter);
    const float* logits = cache.prefill(prompt->second.as<std::int64_t>(), prompt->second.shape[1]);
    Answer answer;
    answer.outputs["logits"].assign(logits, logits + vocabulary);
    for (std::size_t place = 0; place < one.tokens.size(); ++place) {
        if (place != 0) {
            logits = cache.step(&one.tokens[place - 1]);
        }
        answer.next.push_back(likeliest(logits, vocabulary));
    }
    return answer;
}

Answer run_batch(Runner& runner, const GoldenCase& one, const AdapterChoice& adapter) {
    std::vector<Named> inputs;
    for (const auto& [name, value] : one.inputs) {
        inputs.push_back({name, value});
    }
    Answer answer;
    const Outputs outputs = runner.run(inputs, adapter);
    for (const Named& output : outputs.arrays) {
        answer.outputs[output.name] = to_floats(output.array);
    }
    return answer;
}

Answer answer_case(Runner& runner, const GoldenCase& one) {
    const auto adapter = runner.manifest().adapters.empty() ? std::nullopt : one.adapter;
    return runner.manifest().decoder ? run_prompt(runner, one, runner.adapters().tensors(adapter))
                                     : run_batch(runner, one, AdapterChoice::of(adapter));
}

// The distances of one case's answer, added to those of the others.
void measure_distances(const GoldenCase& one, const Answer& answer, Comparison& worst,
                       double& largest) {
    for (const auto& [name, recorded] : one.outputs) {
        const auto found = answer.outputs.find(name);
        const std::vector<float> own = to_floats(recorded);
        const std::vector<float> exact = to_floats(one.exact.at(name));
        if (found == answer.outputs.end() || found->second.size() != own.size()) {
            fail(EDGE_LRA_DAMAGED, golden_name, ": ", name, ": found ", std::uint64_t{own.size()},
                 " values, expected an output of the graph, and as many as it gave; export again");
        }
        raise(worst.max_abs_error, distance(found->second, own));
        raise(worst.max_abs_error_float, distance(found->second, exact));
        raise(worst.recorded_error_float, distance(own, exact));
        raise(largest, distance(exact, std::vector<float>(exact.size(), 0)));
    }
}

// Rows of choices, of the float model and of a run; counted where the first is clear.
class Votes {
 public:
    explicit Votes(double allowed) : allowed_(allowed) {}

    void add_row(const float* exact, const float* found, std::size_t width) {
        const std::size_t best = place_of_best(exact, width);
        float second = -std::numeric_limits<float>::infinity();
        for (std::size_t i = 0; i < width; ++i) {
            second = i == best ? second : std::max(second, exact[i]);
        }
        add_vote(exact[best] - second, place_of_best(found, width) == best);
    }

    void add_vote(float margin, bool is_same) {
        decided += margin > allowed_ ? 1 : 0;
        agreed += margin > allowed_ && is_same ? 1 : 0;
    }

    std::size_t decided = 0;
    std::size_t agreed = 0;

 private:
    static std::size_t place_of_best(const float* values, std::size_t width) {
        return static_cast<std::size_t>(std::max_element(values, values + width) - values);
    }

    double allowed_;
};

void count_votes(const GoldenCase& one, const Answer& answer, const std::string& problem,
                 Votes& votes) {
    for (const char* name : choices) {
        const auto exact = one.exact.find(name);
        const auto found = answer.outputs.find(name);
        if (problem == "regression" || exact == one.exact.end() || found == answer.outputs.end() ||
            exact->second.shape.empty()) {
            continue;
        }
        const std::vector<float> truth = to_floats(exact->second);
        const auto width = static_cast<std::size_t>(exact->second.shape.back());
        for (std::size_t row = 0; row < truth.size() && problem != "multi_label_classification";
             row += width) {
            if (width > 1) {
                votes.add_row(&truth[row], &found->second[row], width);
            }
        }
        for (std::size_t i = 0; i < truth.size() && problem == "multi_label_classification"; ++i) {
            const float independent[] = {truth[i], 0};  // each label is a choice against zero
            const float mine[] = {found->second[i], 0};
            votes.add_row(independent, mine, 2);
        }
    }
    for (std::size_t place = 0; place < one.tokens.size(); ++place) {
        votes.add_vote(one.margins[place], answer.next[place] == one.tokens[place]);
    }
}

}  // namespace

double Comparison::allowed_error_float() const {
    return slack * recorded_error_float + kernel_spread + rounding;
}

std::vector<GoldenCase> read_golden(const fs::path& folder, const Manifest& manifest) {
    std::vector<GoldenCase> cases;
    if (manifest.golden.adapters.empty()) {
        return cases;
    }
    const fs::path file = resolve(folder, golden_name);
    const std::string where = text_of(file);
    const Arrays tensors =
        parse_safetensors(read_file(file, std::numeric_limits<std::ptrdiff_t>::max()), where);
    for (std::size_t index = 0; index < manifest.golden.adapters.size(); ++index) {
        const auto part = [&](const char* kind) {
            return with_prefix(tensors, say(kind, ".", std::uint64_t{index}, "."));
        };
        GoldenCase one{
            manifest.golden.adapters[index], part("input"), part("output"), part("float"), {}, {}};
        const Arrays greedy = part("greedy");
        if (greedy.count("tokens") != 0 && greedy.count("margins") != 0 &&
            greedy.at("tokens").dtype->id == EDGE_LRA_INT64) {
            const Array& tokens = greedy.at("tokens");
            one.tokens.assign(tokens.as<std::int64_t>(),
                              tokens.as<std::int64_t>() + tokens.count());
            one.margins = to_floats(greedy.at("margins"));
        }
        check_case(one, where);
        cases.push_back(std::move(one));
    }
    return cases;
}

Comparison check_golden(Runner& runner) {
    const std::vector<GoldenCase> cases = read_golden(runner.folder(), runner.manifest());
    Comparison found;
    found.cases = cases.size();
    double largest = 0;
    std::vector<Answer> answers;
    for (const GoldenCase& one : cases) {
        answers.push_back(answer_case(runner, one));
        measure_distances(one, answers.back(), found, largest);
    }
    found.kernel_spread = runner.manifest().golden.kernel_spread * largest;
    Votes votes(found.allowed_error_float());
    for (std::size_t place = 0; place < cases.size(); ++place) {
        count_votes(cases[place], answers[place], runner.manifest().problem_type, votes);
    }
    found.decided = votes.decided;
    found.agreed = votes.agreed;
    return found;
}

void require_faithful(const Runner& runner, const Comparison& found) {
    if (!(found.max_abs_error_float <= found.allowed_error_float())) {  // NaN is not
        fail(EDGE_LRA_GATE_FAILED, text_of(runner.folder()), ": found answers ",
             found.max_abs_error_float, " from the float model, expected at most ",
             found.allowed_error_float(), " (it was ", found.recorded_error_float,
             " at export); do not ship it on this machine");
    }
    if (runner.manifest().decoder && found.agreed < found.decided) {
        fail(EDGE_LRA_GATE_FAILED, text_of(runner.folder()),
             ": found other tokens than at export at ", std::uint64_t{found.decided - found.agreed},
             " of ", std::uint64_t{found.decided},
             " places where one is clearly the likeliest, expected the same; do not ship it on "
             "this machine");
    }
}

}  // namespace edge_lra
