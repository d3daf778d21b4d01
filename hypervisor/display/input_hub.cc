#include "hypervisor/display/input_hub.h"

namespace kumoi::hypervisor {

void InputHub::add(KeySink& sink) {
    const std::lock_guard lock(mutex_);
    keys_.push_back(&sink);
}

void InputHub::add(PointerSink& sink) {
    const std::lock_guard lock(mutex_);
    pointers_.push_back(&sink);
}

void InputHub::key(uint16_t code, bool down) {
    const std::lock_guard lock(mutex_);
    const auto held = down_.find(code);
    if (held != down_.end()) {
        held->second->key(code, down);
        if (!down) {
            down_.erase(held);
        }
        return;
    }
    if (!down) {
        return;  // it went down before we were there
    }
    for (KeySink* sink : keys_) {
        if (sink->ready()) {
            down_[code] = sink;
            sink->key(code, true);
            return;
        }
    }
}

void InputHub::pointer(const PointerState& state) {
    const std::lock_guard lock(mutex_);
    for (PointerSink* sink : pointers_) {
        if (sink->ready()) {
            sink->pointer(state);
            return;
        }
    }
}

void InputHub::release_all() {
    const std::lock_guard lock(mutex_);
    for (const auto& [code, sink] : down_) {
        sink->key(code, false);
    }
    down_.clear();
}

}  // namespace kumoi::hypervisor
