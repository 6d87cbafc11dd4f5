#include "cache.h"

#include <algorithm>
#include <cstring>

#include "failure.h"
#include "inputs.h"

namespace edge_lra {

namespace {

constexpr std::int64_t first_capacity = 256;  // before anything is known
constexpr std::int64_t chunk = 256;           // prompt tokens a run

Array array_over(edge_lra_dtype dtype, Shape shape, const void* data) {
    Array array;
    array.dtype = find_dtype(dtype);
    array.size = count_elements(shape, array.dtype->width).value_or(0) * array.dtype->width;
    array.shape = std::move(shape);
    array.data = static_cast<const std::byte*>(data);
    return array;
}

std::size_t product(std::int64_t a, std::int64_t b) {
    return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

}  // namespace

Buffer::Buffer(const Shape& shape) : data_(nullptr, std::free) {
    const auto count = count_elements(shape, sizeof(float));
    if (count) {
        size_ = *count * sizeof(float);
        data_.reset(
            static_cast<float*>(std::calloc(std::max<std::size_t>(*count, 1), sizeof(float))));
    }
    if (!data_) {
        fail(EDGE_LRA_OUT_OF_MEMORY, "cache: found no memory for keys and values of ",
             listed(shape), "; give a smaller context");
    }
}

Lane::Lane(const Runner& runner, const std::vector<float*>& buffers, std::int64_t rows,
           std::int64_t capacity)
    : session_(runner.session()),
      manifest_(runner.manifest()),
      rows_(rows),
      index_(static_cast<std::size_t>(rows), 0),
      binding_(nullptr, runner.session().library().api().ReleaseIoBinding) {
    OrtIoBinding* made = nullptr;
    const Library& library = session_.library();
    library.check(library.api().CreateIoBinding(&session_.handle(), &made), "generation");
    binding_.reset(made);
    const Decoder& decoder = *manifest_.decoder;
    const Shape shape{rows, decoder.kv_heads, capacity, decoder.head_size};
    for (std::size_t place = 0; place < buffers.size(); ++place) {
        const Array buffer = array_over(EDGE_LRA_FLOAT32, shape, buffers[place]);
        bind_input(decoder.cache[place].first, buffer);
        bind_output(decoder.cache[place].second, buffer);
    }
    if (!decoder.adapter_index.empty()) {
        bind_input(decoder.adapter_index, array_over(EDGE_LRA_INT64, {rows}, index_.data()));
    }
    const std::size_t width = product(rows, *manifest_.vocabulary_size);
    logits_.resize(width);
    bind_output("logits", array_over(EDGE_LRA_FLOAT32, {rows, 1, *manifest_.vocabulary_size},
                                     logits_.data()));
    resize(1);
}

void Lane::bind_input(const std::string& name, const Array& array) {
    Value value = session_.wrap(array);
    const Library& library = session_.library();
    library.check(library.api().BindInput(binding_.get(), name.c_str(), value.get()), "generation");
    bound_.insert_or_assign(name, std::move(value));
}

void Lane::bind_output(const std::string& name, const Array& array) {
    Value value = session_.wrap(array);
    const Library& library = session_.library();
    library.check(library.api().BindOutput(binding_.get(), name.c_str(), value.get()),
                  "generation");
    bound_.insert_or_assign(name, std::move(value));
}

void Lane::resize(std::int64_t tokens) {
    if (tokens != tokens_) {
        tokens_ = tokens;
        ids_.assign(product(rows_, tokens), 0);
        bind_input("input_ids", array_over(EDGE_LRA_INT64, {rows_, tokens}, ids_.data()));
    }
}

void Lane::set_mask(const std::int64_t* mask, std::int64_t width) {
    bind_input("attention_mask", array_over(EDGE_LRA_INT64, {rows_, width}, mask));
}

void Lane::use(const AdapterTensors& adapter) {
    adapter_ = adapter;  // onnxruntime keeps no array alive
    for (std::size_t place = 0; place < adapter->size(); ++place) {
        bind_input(manifest_.adapter_inputs[place].name, (*adapter)[place]);
    }
}

void Lane::run() {
    const Library& library = session_.library();
    library.check(library.api().RunWithBinding(&session_.handle(), nullptr, binding_.get()),
                  "generation: the run failed");
}

Cache::Cache(const Runner& runner, std::int64_t rows, AdapterTensors adapter)
    : runner_(runner), adapter_(std::move(adapter)), lengths_(static_cast<std::size_t>(rows), 0) {
    allocate(1);
}

const float* Cache::prefill(const std::int64_t* ids, std::int64_t count, std::int64_t row) {
    const std::int64_t before = length(row);
    check(ids, count, count > runner_.context() ? count : before + count);
    const auto found = readers_.find(row);
    Lane& lane = found != readers_.end() ? found->second
                                         : readers_.emplace(row, make_lane(row, 1)).first->second;
    for (std::int64_t start = 0; start < count; start += chunk) {
        const std::int64_t part = std::min(chunk, count - start);
        lane.resize(part);
        std::copy_n(ids + start, part, lane.ids());
        lane.set_mask(ones_.data(), before + start + part);
        lane.run();
        set_length(before + start + part, row);
    }
    return lane.logits();
}

const float* Cache::step(const std::int64_t* ids) {
    check(ids, rows(), *std::max_element(lengths_.begin(), lengths_.end()) + 1);
    if (!stepper_) {
        stepper_ = std::make_unique<Lane>(make_lane(0, rows()));
        stepper_->set_mask(mask_.data(), capacity_);
    }
    std::copy_n(ids, rows(), stepper_->ids());
    for (std::int64_t row = 0; row < rows(); ++row) {
        mask_[product(row, capacity_) + static_cast<std::size_t>(length(row))] = 1;
    }
    stepper_->run();
    for (std::int64_t& length : lengths_) {
        ++length;
    }
    return stepper_->logits();
}

void Cache::truncate(std::int64_t length, std::int64_t row) {
    if (length < 0 || length > this->length(row)) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "truncate: found ", length, ", expected 0 to ",
             this->length(row));
    }
    set_length(length, row);
}

void Cache::use(const AdapterTensors& adapter) {
    adapter_ = adapter;
    for (auto& entry : readers_) {
        entry.second.use(adapter);
    }
    if (stepper_) {
        stepper_->use(adapter);
    }
}

std::size_t Cache::size() const {
    std::size_t total = 0;
    for (const Buffer& buffer : buffers_) {
        total += buffer.size();
    }
    return total;
}

void Cache::allocate(std::int64_t tokens) {
    if (tokens <= capacity_) {
        return;
    }
    std::int64_t wanted = first_capacity;
    while (wanted < tokens) {
        wanted *= 2;
    }
    const std::int64_t capacity = std::min(runner_.context(), wanted);
    readers_.clear();  // they hold the old buffers
    stepper_.reset();
    const Decoder& decoder = *runner_.manifest().decoder;
    const std::int64_t heads = rows() * decoder.kv_heads;
    const std::size_t old_room = product(capacity_, decoder.head_size);
    const std::size_t room = product(capacity, decoder.head_size);
    for (std::size_t place = 0; place < decoder.cache.size(); ++place) {  // never two whole caches
        Buffer fresh({rows(), decoder.kv_heads, capacity, decoder.head_size});
        if (place == buffers_.size()) {
            buffers_.push_back(std::move(fresh));
            continue;
        }
        const float* old = buffers_[place].data();
        for (std::size_t head = 0; head < static_cast<std::size_t>(heads); ++head) {
            std::memcpy(fresh.data() + head * room, old + head * old_room,
                        old_room * sizeof(float));
        }
        buffers_[place] = std::move(fresh);
    }
    capacity_ = capacity;
    ones_.assign(static_cast<std::size_t>(capacity), 1);
    mask_.assign(product(rows(), capacity), 0);
    for (std::int64_t row = 0; row < rows(); ++row) {
        set_length(length(row), row);
    }
}

void Cache::check(const std::int64_t* ids, std::int64_t count, std::int64_t longest) {
    if (count < 1) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "tokens: found none, expected at least 1");
    }
    check_ids("tokens", array_over(EDGE_LRA_INT64, {count}, ids),
              *runner_.manifest().vocabulary_size);
    if (longest > runner_.context()) {
        fail(EDGE_LRA_INVALID_ARGUMENT, "tokens: found ", longest, ", expected at most ",
             runner_.context(), ", the context; give fewer");
    }
    allocate(longest);
}

void Cache::set_length(std::int64_t length, std::int64_t row) {
    const auto begin = mask_.begin() + row * capacity_;
    std::fill_n(begin, length, 1);
    std::fill(begin + length, begin + capacity_, 0);
    lengths_[static_cast<std::size_t>(row)] = length;
}

Lane Cache::make_lane(std::int64_t row, std::int64_t rows) {
    const Decoder& decoder = *runner_.manifest().decoder;
    const std::size_t width = product(decoder.kv_heads * capacity_, decoder.head_size);
    std::vector<float*> places;
    for (const Buffer& buffer : buffers_) {
        places.push_back(buffer.data() + static_cast<std::size_t>(row) * width);
    }
    Lane lane(runner_, places, rows, capacity_);
    lane.use(adapter_);
    return lane;
}

}  // namespace edge_lra
