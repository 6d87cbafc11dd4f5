#include "workload.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>

#include "cache.h"
#include "failure.h"
#include "generate.h"

namespace edge_lra {

namespace {

constexpr int switch_rounds = 15;
constexpr std::int64_t most_rows = 4096;
constexpr std::int64_t most_tokens = 1 << 20;

// Ids of the vocabulary but 0, which pads; the same every time.
class Random {
 public:
    std::int64_t id(std::int64_t vocabulary) {
        const auto most = static_cast<std::uint64_t>(std::max<std::int64_t>(vocabulary - 1, 1));
        return std::min<std::int64_t>(1 + static_cast<std::int64_t>(engine_() % most),
                                      vocabulary - 1);
    }
    double normal() { return normal_(engine_); }

 private:
    std::mt19937_64 engine_{0};  // NOLINT(cert-msc32-c,cert-msc51-cpp): a profile must repeat
    std::normal_distribution<double> normal_;
};

Shape sizes_of(const Node& node, Batch batch) {
    const std::map<std::string, std::int64_t> named{
        {"batch", batch.rows}, {"sequence", batch.tokens}, {"total_sequence", batch.tokens}};
    Shape shape;
    for (std::size_t place = 0; place < node.shape.size(); ++place) {
        const Axis& axis = node.shape[place];
        const auto known = named.find(axis.name);
        const std::int64_t example = node.example.empty() ? 1 : node.example[place];
        shape.push_back(!axis.is_named()       ? axis.size
                        : known != named.end() ? known->second
                                               : example);
    }
    return shape;
}

void fill_ids(std::byte* data, const DType& dtype, std::size_t count, std::int64_t vocabulary,
              Random& random) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t id = random.id(vocabulary);
        std::memcpy(data + i * dtype.width, &id, dtype.width);  // little-endian, as all hosts
    }
}

// One input's values: random ids, normal floats, ones of a mask, zeros for other integers.
Named make_input(const Node& node, Batch batch, std::int64_t vocabulary, Random& random) {
    Fresh made = make_array(*node.dtype, sizes_of(node, batch));
    const std::size_t count = made.array.count();
    const DType& dtype = *node.dtype;
    if (node.name == "input_ids" && dtype.kind == Kind::integer) {
        fill_ids(made.data, dtype, count, vocabulary, random);
    } else if (dtype.id == EDGE_LRA_FLOAT32 || dtype.id == EDGE_LRA_FLOAT64) {
        for (std::size_t i = 0; i < count; ++i) {
            const double value = random.normal();
            const auto narrow = static_cast<float>(value);
            std::memcpy(made.data + i * dtype.width,
                        dtype.width == 4 ? static_cast<const void*>(&narrow) : &value, dtype.width);
        }
    } else if (node.name == "attention_mask" || dtype.kind == Kind::truth) {
        for (std::size_t i = 0; i < count; ++i) {
            made.data[i * dtype.width] = std::byte{1};
        }
    }
    return {node.name, std::move(made.array)};
}

// A batch in one run.
class Texts : public Workload {
 public:
    Texts(Runner& runner, Batch batch) : runner_(runner) {
        Random random;
        const std::int64_t vocabulary = runner.manifest().vocabulary_size.value_or(2);
        for (const Node& node : runner.manifest().inputs) {
            inputs_.push_back(make_input(node, batch, vocabulary, random));
        }
    }

    void first() override {
        run_checked();
        prepared_ = std::make_unique<Prepared>(runner_.prepare(inputs_, {}));
    }
    void again() override { (void)prepared_->run(); }
    [[nodiscard]] Json cache() const override { return nullptr; }

    // Reading the adapter's file, which the system has in memory, and a first run with its tensors
    // above a repeated one.
    std::optional<double> switch_ms() override {
        const auto was = runner_.default_adapter();
        const auto other = other_adapter(runner_);
        if (!was || !other) {
            return std::nullopt;
        }
        std::vector<double> reads;
        std::vector<double> extras;
        for (int round = 0; round < switch_rounds; ++round) {
            const std::string& name = round % 2 == 0 ? *other : *was;
            reads.push_back(timed_ms([&] { (void)runner_.adapters().read(name); }));
            runner_.set_adapter(name);
            const double switched = timed_ms([&] { run_checked(); });
            extras.push_back(switched - timed_ms([&] { run_checked(); }));
        }
        runner_.set_adapter(was);
        return std::max(0.0, median(reads) + median(extras));
    }

 private:
    void run_checked() { (void)runner_.run(inputs_, {}); }

    Runner& runner_;
    std::vector<Named> inputs_;
    std::unique_ptr<Prepared> prepared_;
};

// What prompts and next tokens have in common: a cache that is read into and truncated.
class Cached : public Workload {
 public:
    Cached(Runner& runner, Batch batch, std::int64_t context)
        : runner_(runner), batch_(batch), context_(context) {
        const std::int64_t longest = runner.context();
        const std::int64_t needed = context != 0 ? context + 1 : batch.tokens;
        if (needed > longest) {
            fail(EDGE_LRA_INVALID_ARGUMENT, "tokens: found ", needed, ", expected at most ",
                 longest, ", the context; give fewer");
        }
        Random random;
        const std::int64_t count = context != 0 ? context : batch.rows * batch.tokens;
        for (std::int64_t i = 0; i < count; ++i) {
            ids_.push_back(random.id(*runner.manifest().vocabulary_size));
        }
    }

    void first() override {
        const std::int64_t rows = context_ != 0 ? 1 : batch_.rows;
        cache_ = std::make_unique<Cache>(runner_, rows,
                                         runner_.adapters().tensors(runner_.default_adapter()));
        if (context_ != 0) {
            next_ = choose(cache_->prefill(ids_.data(), context_));
        } else {
            again();
        }
    }

    // A step that is forgotten by the next one, so that the context stays as long; or prompts into
    // an empty cache, row by row.
    void again() override {
        if (context_ != 0) {
            cache_->truncate(context_);
            next_ = choose(cache_->step(&next_));
            return;
        }
        for (std::int64_t row = 0; row < batch_.rows; ++row) {
            cache_->truncate(0, row);
            (void)cache_->prefill(ids_.data() + row * batch_.tokens, batch_.tokens, row);
        }
    }

    [[nodiscard]] Json cache() const override {
        std::int64_t used = context_;
        for (std::int64_t row = 0; context_ == 0 && row < cache_->rows(); ++row) {
            used += cache_->length(row);
        }
        const auto places = static_cast<std::size_t>(cache_->rows() * cache_->capacity());
        return {{"bytes", cache_->size() / places * static_cast<std::size_t>(used)},
                {"reserved_bytes", cache_->size()}};
    }

    // A step with another adapter, which is in memory, above a repeated one.
    std::optional<double> switch_ms() override {
        const auto was = runner_.default_adapter();
        const auto other = other_adapter(runner_);
        if (!was || !other) {
            return std::nullopt;
        }
        const AdapterTensors tensors[] = {runner_.adapters().tensors(other),
                                          runner_.adapters().tensors(was)};
        std::vector<double> chosen;
        std::vector<double> extras;
        for (int round = -2; round < switch_rounds; ++round) {  // the first ones bind
            const double chose = timed_ms([&] { cache_->use(tensors[(round + 2) % 2]); });
            const double switched = timed_ms([&] { step(); });
            if (round >= 0) {
                chosen.push_back(chose);
                extras.push_back(switched - timed_ms([&] { step(); }));
            }
        }
        cache_->use(tensors[1]);
        return median(chosen) + std::max(0.0, median(extras));
    }

 private:
    std::int64_t choose(const float* logits) const {
        return likeliest(logits, *runner_.manifest().vocabulary_size);
    }

    void step() {
        for (std::int64_t row = 0; row < cache_->rows(); ++row) {
            cache_->truncate(std::min(cache_->length(row), runner_.context() - 1), row);
        }
        const std::vector<std::int64_t> ids(static_cast<std::size_t>(cache_->rows()), 1);
        (void)cache_->step(ids.data());
        for (std::int64_t row = 0; row < cache_->rows(); ++row) {
            cache_->truncate(cache_->length(row) - 1, row);
        }
    }

    Runner& runner_;
    Batch batch_;
    std::int64_t context_;
    std::vector<std::int64_t> ids_;
    std::int64_t next_ = 0;
    std::unique_ptr<Cache> cache_;
};

}  // namespace

std::unique_ptr<Workload> make_workload(Runner& runner, Batch batch,
                                        std::optional<std::int64_t> context) {
    if (batch.rows < 1 || batch.tokens < 1 || batch.rows > most_rows ||
        batch.tokens > most_tokens) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "shape: found ", batch.rows, "x", batch.tokens,
             ", expected 1 to ", most_rows, " texts of 1 to ", most_tokens, " tokens");
    }
    if (runner.manifest().decoder) {
        if (context && *context < 1) {
            fail(EDGE_LRA_INVALID_ARGUMENT, "context: found ", *context, ", expected at least 1");
        }
        return std::make_unique<Cached>(runner, batch, context.value_or(0));
    }
    if (context) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "context: found ", *context, " for ",
             text_of(runner.folder()),
             ", which generates no text, expected a language model's bundle");
    }
    check_length(runner.manifest(), batch.tokens);
    return std::make_unique<Texts>(runner, batch);
}

std::optional<std::string> pick_adapter(const Runner& runner,
                                        const std::optional<std::string>& name) {
    const Manifest& manifest = runner.manifest();
    if (manifest.adapters.empty()) {
        return std::nullopt;
    }
    if (name && manifest.find_adapter(*name) == nullptr) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "adapter: found ", in_quotes(*name),
             ", expected one of: ", joined(manifest.adapter_names()));
    }
    return name                       ? name
           : manifest.default_adapter ? manifest.default_adapter
                                      : manifest.adapters.front().name;
}

std::optional<std::string> other_adapter(const Runner& runner) {
    const auto was = runner.default_adapter();
    for (const ListedAdapter& adapter : runner.manifest().adapters) {
        if (adapter.name != was) {
            return adapter.name;
        }
    }
    return std::nullopt;
}

}  // namespace edge_lra
