// InputHub: keys and pointer from a person to whoever in the guest listens.
//
// Codes are Linux's (KEY_* and BTN_* of <linux/input-event-codes.h>), positions 0 to 32767 over the
// whole picture. A sink that is not ready (its driver has not started) is passed over for the next:
// virtio devices come first, the PS/2 keyboard of firmware and boot loaders last. A key that went
// down on one sink comes up on the same one. Thread safe.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace kumoi::hypervisor {

constexpr uint32_t kPointerMax = 32767;

class KeySink {
public:
    virtual ~KeySink() = default;
    virtual bool ready() const = 0;
    virtual void key(uint16_t code, bool down) = 0;
};

struct PointerState {
    uint32_t x = 0;  // 0 to kPointerMax
    uint32_t y = 0;
    bool left = false;
    bool middle = false;
    bool right = false;
    int32_t wheel = 0;  // clicks away from the person, since the last state
    int32_t horizontal_wheel = 0;
};

class PointerSink {
public:
    virtual ~PointerSink() = default;
    virtual bool ready() const = 0;
    virtual void pointer(const PointerState& state) = 0;
};

class InputHub {
public:
    // In order of preference; sinks outlive the hub's use.
    void add(KeySink& sink);
    void add(PointerSink& sink);
    void key(uint16_t code, bool down);
    void pointer(const PointerState& state);
    void release_all();  // the last viewer has gone: no key stays down

private:
    std::mutex mutex_;
    std::vector<KeySink*> keys_;
    std::vector<PointerSink*> pointers_;
    std::map<uint16_t, KeySink*> down_;
};

}  // namespace kumoi::hypervisor
