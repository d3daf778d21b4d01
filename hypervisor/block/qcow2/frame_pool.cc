#include "hypervisor/block/qcow2/frame_pool.h"

#include <array>
#include <cstdlib>
#include <new>
#include <utility>

namespace kumoi::hypervisor::qcow2 {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

void* frame_allocate(size_t size) {
    return ::operator new(size);
}

void frame_free(void* memory, size_t /*size*/) {
    ::operator delete(memory);
}

#else

namespace {

constexpr size_t kClassSize = 128;  // bytes a size class
constexpr size_t kClassCount = 16;  // up to 2 KiB
constexpr size_t kKeptMax = 256;    // frames a class and thread

struct Free {
    Free* next;
};

class Pool {
public:
    ~Pool() {
        for (Free*& head : heads_) {
            while (head != nullptr) {
                ::operator delete(std::exchange(head, head->next));
            }
        }
    }
    void* take(size_t index) {
        Free* head = heads_[index];
        if (head == nullptr) {
            return ::operator new((index + 1) * kClassSize);
        }
        heads_[index] = head->next;
        --counts_[index];
        return head;
    }
    void give(void* memory, size_t index) {
        if (counts_[index] >= kKeptMax) {
            ::operator delete(memory);
            return;
        }
        heads_[index] = new (memory) Free{heads_[index]};
        ++counts_[index];
    }

private:
    std::array<Free*, kClassCount> heads_{};
    std::array<size_t, kClassCount> counts_{};
};

thread_local Pool pool;

}  // namespace

void* frame_allocate(size_t size) {
    const size_t index = (size - 1) / kClassSize;
    return index < kClassCount ? pool.take(index) : ::operator new(size);
}

void frame_free(void* memory, size_t size) {
    const size_t index = (size - 1) / kClassSize;
    if (index < kClassCount) {
        pool.give(memory, index);
    } else {
        ::operator delete(memory);
    }
}

#endif

}  // namespace kumoi::hypervisor::qcow2
