// Objects behind numbers: a number that was given back finds nothing, and never another object.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "failure.h"

namespace edge_lra {

// Safe from many threads. An object lives as long as somebody holds it, also once it was removed.
template <class T>
class Handles {
 public:
    // `kind` says in messages what the numbers stand for.
    explicit Handles(const char* kind) : kind_(kind) {}

    std::uint64_t add(std::shared_ptr<T> object) {
        const std::lock_guard lock(mutex_);
        objects_.emplace(next_, std::move(object));
        return next_++;
    }

    // Throws Failure (CLOSED).
    std::shared_ptr<T> get(std::uint64_t handle) {
        const std::lock_guard lock(mutex_);
        return find(handle)->second;
    }

    // Throws Failure (CLOSED). The object ends with the last who holds it.
    std::shared_ptr<T> remove(std::uint64_t handle) {
        const std::lock_guard lock(mutex_);
        const auto found = find(handle);
        std::shared_ptr<T> object = std::move(found->second);
        objects_.erase(found);
        return object;
    }

 private:
    auto find(std::uint64_t handle) {
        const auto found = objects_.find(handle);
        if (found == objects_.end()) {
            fail(EDGE_LRA_CLOSED, kind_,
                 ": found a handle that was closed or is none, expected an ", "open one");
        }
        return found;
    }

    const char* kind_;
    std::mutex mutex_;
    std::uint64_t next_ = 1;
    std::unordered_map<std::uint64_t, std::shared_ptr<T>> objects_;
};

}  // namespace edge_lra
