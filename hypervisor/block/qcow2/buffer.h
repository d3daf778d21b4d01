// AlignedBuffer: memory that O_DIRECT can transfer. A movable value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

namespace kumoi::hypervisor::qcow2 {

inline bool all_zero(std::span<const std::byte> bytes) {
    return bytes.empty() || (bytes[0] == std::byte{0} &&
                             std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

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
    bool all_zero() const { return qcow2::all_zero({memory_.get(), size_}); }

private:
    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };
    std::unique_ptr<std::byte, Free> memory_;
    uint64_t size_ = 0;
};

}  // namespace kumoi::hypervisor::qcow2
