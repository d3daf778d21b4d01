// AlignedBuffer: memory that O_DIRECT can transfer. A movable value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace kumoi::hypervisor::qcow2 {

class AlignedBuffer {
public:
    bool allocate(uint64_t size) {
        constexpr uint64_t kAlignment = 4096;
        memory_.reset(static_cast<std::byte*>(
            std::aligned_alloc(kAlignment, (size + kAlignment - 1) & ~(kAlignment - 1))));
        size_ = memory_ ? size : 0;
        return memory_ != nullptr;
    }
    std::byte* data() const { return memory_.get(); }
    uint64_t size() const { return size_; }
    bool all_zero() const {
        return size_ == 0 || (memory_.get()[0] == std::byte{0} &&
                              std::memcmp(memory_.get(), memory_.get() + 1, size_ - 1) == 0);
    }

private:
    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };
    std::unique_ptr<std::byte, Free> memory_;
    uint64_t size_ = 0;
};

}  // namespace kumoi::hypervisor::qcow2
