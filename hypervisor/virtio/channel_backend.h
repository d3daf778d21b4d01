// ChannelBackend: the host's end of one named port of a VirtioSerial: bytes both ways, and whether
// somebody is there. Used by the device's I/O thread only; nothing here may block.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "base/event_loop.h"
#include "base/result.h"

namespace kumoi::hypervisor {

class ChannelBackend {
public:
    // Called on the loop. None of them is called from inside a call of the backend's.
    struct Events {
        std::function<void()> input_ready;         // read() may return something
        std::function<void()> output_ready;        // there is room again
        std::function<void()> connection_changed;  // somebody came, or went: then there is room
    };
    virtual ~ChannelBackend() = default;
    virtual Result<void> start(EventLoop& loop, Events events) = 0;
    virtual void stop() = 0;  // drops what start() made on the loop
    virtual bool connected() const = 0;
    // No input_ready calls until enabled: the guest has no buffers, or nobody there has the port
    // open.
    virtual void set_input_enabled(bool enabled) = 0;
    virtual size_t read(std::span<std::byte> bytes) = 0;  // 0: nothing there now
    // Whether a write() would be taken; when not, output_ready comes.
    virtual bool has_room() const = 0;
    // Returns how many bytes were taken. Without a connection all are, and go nowhere.
    virtual size_t write(std::span<const std::byte> bytes) = 0;
};

}  // namespace kumoi::hypervisor
