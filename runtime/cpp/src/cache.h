// Keys and values of a batch: one buffer for past and present, bound once, grown by doubling.
//
// GroupQueryAttention writes new keys behind the valid ones, and how many are valid is the sum of
// the attention mask's row: a step overwrites token ids and one place of the mask, and binds
// nothing.
#pragma once

#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "adapters.h"
#include "runner.h"

namespace edge_lra {

// Zeros whose pages are the system's until they are written to.
class Buffer {
 public:
    explicit Buffer(const Shape& shape);  // of float32. Throws Failure (OUT_OF_MEMORY)

    [[nodiscard]] float* data() const { return data_.get(); }
    [[nodiscard]] std::size_t size() const { return size_; }  // bytes

 private:
    std::size_t size_ = 0;
    std::unique_ptr<float, void (*)(void*)> data_;
};

// The session's inputs and outputs, bound to the memory of one row or of all.
class Lane {
 public:
    // `buffers`: of keys and values, each (rows, kv_heads, capacity, head_size).
    Lane(const Runner& runner, const std::vector<float*>& buffers, std::int64_t rows,
         std::int64_t capacity);

    void resize(std::int64_t tokens);  // to take so many new tokens a row
    void set_mask(const std::int64_t* mask, std::int64_t width);
    void use(const AdapterTensors& adapter);
    void run();

    [[nodiscard]] std::int64_t tokens() const { return tokens_; }
    [[nodiscard]] std::int64_t* ids() { return ids_.data(); }             // (rows, tokens)
    [[nodiscard]] const float* logits() const { return logits_.data(); }  // (rows, 1, vocabulary)

 private:
    void bind_input(const std::string& name, const Array& array);
    void bind_output(const std::string& name, const Array& array);

    const Session& session_;
    const Manifest& manifest_;
    std::int64_t rows_;
    std::int64_t tokens_ = 0;
    std::vector<std::int64_t> ids_;
    std::vector<std::int64_t> index_;
    std::vector<float> logits_;
    AdapterTensors adapter_;
    std::map<std::string, Value> bound_;
    Owned<OrtIoBinding> binding_;
};

// A batch of token sequences that the model has read, each of its own length. For one thread. The
// logits that its methods return are overwritten by the next call.
class Cache {
 public:
    Cache(const Runner& runner, std::int64_t rows, AdapterTensors adapter);

    // Let a row read more tokens, in chunks; return the logits, (vocabulary), of the last. Throws
    // Failure: INVALID_ARGUMENT for other ids than the vocabulary's or too many, RUNTIME,
    // OUT_OF_MEMORY.
    const float* prefill(const std::int64_t* ids, std::int64_t count, std::int64_t row = 0);
    // Let every row read one token; return the logits, (rows, vocabulary).
    const float* step(const std::int64_t* ids);
    // Forget what a row has read behind its first `length` tokens.
    void truncate(std::int64_t length, std::int64_t row = 0);
    // Switch adapters; what was read before keeps the keys and values of the old one.
    void use(const AdapterTensors& adapter);

    [[nodiscard]] std::int64_t rows() const { return static_cast<std::int64_t>(lengths_.size()); }
    [[nodiscard]] std::int64_t length(std::int64_t row) const {
        return lengths_[static_cast<std::size_t>(row)];
    }
    [[nodiscard]] std::int64_t capacity() const { return capacity_; }  // tokens a row has room for
    [[nodiscard]] std::size_t size() const;                            // bytes of keys and values

 private:
    void allocate(std::int64_t tokens);
    void check(const std::int64_t* ids, std::int64_t count, std::int64_t longest);
    void set_length(std::int64_t length, std::int64_t row);
    Lane make_lane(std::int64_t row, std::int64_t rows);

    const Runner& runner_;
    AdapterTensors adapter_;
    std::vector<std::int64_t> lengths_;
    std::int64_t capacity_ = 0;
    std::vector<Buffer> buffers_;
    std::vector<std::int64_t> mask_;        // (rows, capacity)
    std::vector<std::int64_t> ones_;        // (capacity), a row's mask while it reads
    std::map<std::int64_t, Lane> readers_;  // by row
    std::unique_ptr<Lane> stepper_;
};

}  // namespace edge_lra
