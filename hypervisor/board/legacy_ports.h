// Small chips of an old PC that kernels poke at: the keyboard controller (as far as reset and A20
// go), port 0x92, POST and debug ports.
//
// Threads: any vCPU thread; each guards its few bytes by a lock or atomics.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "hypervisor/board/io_bus.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/board/ps2_keyboard.h"
#include "hypervisor/display/input_hub.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

// Intel 8042 at ports 0x60 and 0x64, without a mouse, and with a keyboard only after
// plug_keyboard(): self-test, command byte, output port, scan code translation, and the pulse of
// bit 0 that resets the machine. A20 is always open. key() and ready() from any thread.
class I8042 final : public IoDevice, public Snapshottable, public KeySink {
public:
    static constexpr uint64_t kPortSpan = 5;  // 0x60 to 0x64; 0x61 belongs to the in-kernel PIT

    explicit I8042(std::function<void()> request_reset)
        : request_reset_(std::move(request_reset)) {}
    std::string name() const override { return "i8042"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    void reset();
    std::string section_name() const override { return name(); }
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;
    // Before the machine runs. `irq` is line 1.
    void plug_keyboard(std::unique_ptr<IrqLine> irq);
    bool ready() const override;
    void key(uint16_t code, bool down) override;

private:
    void command(uint8_t value);
    void data_write(uint8_t value);
    void answer(uint8_t value);
    void refill();  // the keyboard's next byte into the output buffer, if it is free

    std::function<void()> request_reset_;
    mutable std::mutex mutex_;      // guards all below
    std::unique_ptr<IrqLine> irq_;  // null: no keyboard
    Ps2Keyboard keyboard_;
    uint8_t command_byte_ = 0x30;  // both devices disabled
    uint8_t output_ = 0;
    bool output_full_ = false;
    uint8_t pending_command_ = 0;  // waits for its data byte
};

// Port 0x92: bit 0 resets, bit 1 is A20 (stored; the gate is always open).
class Port92 final : public IoDevice, public Snapshottable {
public:
    explicit Port92(std::function<void()> request_reset)
        : request_reset_(std::move(request_reset)) {}
    std::string name() const override { return "port92"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    void reset() { value_ = 0x02; }
    std::string section_name() const override { return name(); }
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

private:
    std::function<void()> request_reset_;
    std::atomic<uint8_t> value_{0x02};
};

// Collects bytes into lines and hands each to `sink`; reads answer `signature`. SeaBIOS and OVMF
// print here (port 0x402, signature 0xe9), small kernels at 0xe9. Lines are bounded at 256 bytes.
class DebugPort final : public IoDevice, public Snapshottable {
public:
    static constexpr size_t kLineMax = 256;

    DebugPort(std::string name, uint8_t signature, std::function<void(std::string_view)> sink)
        : name_(std::move(name)), signature_(signature), sink_(std::move(sink)) {}
    std::string name() const override { return name_; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    std::string section_name() const override { return name(); }
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

private:
    std::string name_;
    uint8_t signature_;
    std::function<void(std::string_view)> sink_;
    mutable std::mutex mutex_;
    std::string line_;
};

// POST codes and the I/O delay port: remembers the last code, for the dump.
class PostPort final : public IoDevice, public Snapshottable {
public:
    std::string name() const override { return "post"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    uint8_t last_code() const { return code_; }
    std::string section_name() const override { return name(); }
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

private:
    std::atomic<uint8_t> code_{0};
};

}  // namespace kumoi::hypervisor
