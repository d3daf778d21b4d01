// ConsoleBackend: the other end of a virtio console: a sink for the guest's output, a source of
// input. Used by the device's I/O thread only; nothing here may block.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "base/event_loop.h"
#include "base/result.h"

namespace kumoi::hypervisor {

class ConsoleBackend {
public:
    virtual ~ConsoleBackend() = default;
    // `input_ready` is called on the loop whenever read() may return something.
    virtual Result<void> start(EventLoop& loop, std::function<void()> input_ready) = 0;
    virtual void stop() = 0;  // drops what start() made on the loop
    // No more input_ready calls until enabled again: the guest has no buffers or is paused.
    virtual void set_input_enabled(bool enabled) = 0;
    virtual size_t write(std::span<const std::byte> bytes) = 0;  // returns how many were taken
    virtual size_t read(std::span<std::byte> bytes) = 0;         // 0: nothing there now
};

// Output nobody reads, no input.
class NullConsoleBackend final : public ConsoleBackend {
public:
    Result<void> start(EventLoop& /*loop*/, std::function<void()> /*input_ready*/) override {
        return {};
    }
    void stop() override {}
    void set_input_enabled(bool /*enabled*/) override {}
    size_t write(std::span<const std::byte> bytes) override { return bytes.size(); }
    size_t read(std::span<std::byte> /*bytes*/) override { return 0; }
};

}  // namespace kumoi::hypervisor
