#include "hypervisor/pci/i6300esb.h"

#include <algorithm>
#include <utility>

namespace kumoi::hypervisor {

namespace {

constexpr PciIds kIds{.vendor = 0x8086,
                      .device = 0x25ab,
                      .subsystem_vendor = 0x1af4,
                      .subsystem = 0x1100,
                      .class_code = 0x08'80'00,  // system peripheral, other
                      .revision = 0};

// Configuration space.
constexpr uint32_t kConfigAt = 0x60;  // 16 bits
constexpr uint32_t kConfigFast = 1u << 2;
constexpr uint32_t kConfigNoOutput = 1u << 5;  // running out has no effect
constexpr uint32_t kConfigMask = 0x27;
constexpr uint32_t kLockAt = 0x68;  // 8 bits
constexpr uint32_t kLockLocked = 1u << 0;
constexpr uint32_t kLockEnable = 1u << 1;
constexpr uint32_t kLockFreeRun = 1u << 2;
constexpr uint32_t kLockMask = 7;

// Memory registers.
constexpr uint64_t kTimer1At = 0;
constexpr uint64_t kTimer2At = 4;
constexpr uint64_t kReloadAt = 12;
constexpr uint32_t kReload = 1u << 8;
constexpr uint32_t kTimedOut = 1u << 9;
constexpr uint32_t kUnlock1 = 0x80;
constexpr uint32_t kUnlock2 = 0x86;
constexpr uint32_t kPreloadMask = 0xf'ffff;

constexpr int64_t kPciClockHz = 33'000'000;

// Field ids of the section.
enum Field : uint16_t {
    kFieldConfig = 1,
    kFieldLock,
    kFieldPreload1,
    kFieldPreload2,
    kFieldTimedOut,
    kFieldStage,
    kFieldRemainingNs,
    kFieldUnlock,
};

}  // namespace

I6300Esb::I6300Esb(EventLoop& loop, const Clock& clock, std::function<void()> expired)
    : loop_(loop),
      clock_(clock),
      expired_(std::move(expired)),
      alive_(std::make_shared<std::atomic<bool>>(true)),
      config_(kIds) {
    config_.add_bar(0, kBarSize, BarWidth::Memory32);
    config_.set_writable(kConfigAt, 2, kConfigMask);
    config_.set_writable(kLockAt, 1, kLockMask);
    reset();
}

I6300Esb::~I6300Esb() {
    *alive_ = false;
    if (timer_) {
        loop_.cancel(*timer_);
    }
}

void I6300Esb::reset() {
    const std::lock_guard lock(mutex_);
    config_.reset_command();
    config_.set(kConfigAt, 2, 0);
    config_.set(kLockAt, 1, 0);
    preload_[0] = preload_[1] = kPreloadMask;
    unlock_ = Unlock::Locked;
    stop();
}

// --- Registers ---

uint32_t I6300Esb::config_read(uint32_t offset, uint32_t width) {
    const std::lock_guard lock(mutex_);
    return config_.read(offset, width);
}

void I6300Esb::config_write(uint32_t offset, uint32_t width, uint32_t value) {
    const std::lock_guard lock(mutex_);
    const uint32_t before = config_.read(kLockAt, 1);
    config_.write(offset, width, value);
    if ((before & kLockLocked) != 0) {  // until the next reset of the machine
        config_.set(kLockAt, 1, before);
        return;
    }
    const bool was_enabled = (before & kLockEnable) != 0;
    if (enabled() && !was_enabled) {
        start_stage(1);
    } else if (!enabled() && was_enabled) {
        stop();
    }
}

bool I6300Esb::enabled() const {
    return (config_.read(kLockAt, 1) & kLockEnable) != 0;
}

void I6300Esb::io_read(uint64_t offset, std::span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    std::fill(data.begin(), data.end(), uint8_t{0});
    // The preload registers are write only; so is all of the reload register but this flag.
    for (size_t i = 0; i < data.size(); ++i) {
        if (offset + i == kReloadAt + 1 && timed_out_) {
            data[i] = kTimedOut >> 8;
        }
    }
}

void I6300Esb::io_write(uint64_t offset, std::span<const uint8_t> data) {
    uint32_t value = 0;
    for (size_t i = 0; i < data.size() && i < 4; ++i) {
        value |= static_cast<uint32_t>(data[i]) << (8 * i);
    }
    const std::lock_guard lock(mutex_);
    if (offset == kReloadAt && value == kUnlock1) {
        unlock_ = Unlock::HalfOpen;
        return;
    }
    if (offset == kReloadAt && value == kUnlock2 && unlock_ == Unlock::HalfOpen) {
        unlock_ = Unlock::Open;
        return;
    }
    if (std::exchange(unlock_, Unlock::Locked) != Unlock::Open) {
        return;
    }
    switch (offset) {
        case kTimer1At: preload_[0] = value & kPreloadMask; break;
        case kTimer2At: preload_[1] = value & kPreloadMask; break;
        case kReloadAt: write_reload(value); break;
        default: break;
    }
}

void I6300Esb::write_reload(uint32_t value) {
    if ((value & kReload) != 0) {
        reloads_.increment();
        if (enabled()) {
            start_stage(1);
        }
    }
    if ((value & kTimedOut) != 0) {
        timed_out_ = false;
    }
}

// --- Time ---

int64_t I6300Esb::stage_ns(unsigned stage) const {
    const bool fast = (config_.read(kConfigAt, 2) & kConfigFast) != 0;
    const int64_t clocks = int64_t{preload_[stage - 1]} << (fast ? 5 : 15);
    return std::max(clocks * 1000 / (kPciClockHz / 1'000'000), kStageNsMin);
}

void I6300Esb::start_stage(unsigned stage) {
    stage_ = stage;
    if (paused_) {
        remaining_ns_ = stage_ns(stage);
        return;
    }
    const int64_t before = std::exchange(deadline_ns_, clock_.monotonic_ns() + stage_ns(stage));
    if (before == 0 || deadline_ns_ < before) {
        arm_later();  // else the timer fires early and looks again
    }
}

void I6300Esb::stop() {
    stage_ = 0;
    deadline_ns_ = 0;
    remaining_ns_ = 0;
}

void I6300Esb::arm_later() {
    if (!arm_posted_.exchange(true)) {
        loop_.post([this, alive = alive_] {
            if (*alive) {
                arm_posted_ = false;
                arm();
            }
        });
    }
}

void I6300Esb::arm() {
    if (timer_) {
        loop_.cancel(*timer_);
        timer_.reset();
    }
    const std::lock_guard lock(mutex_);
    if (deadline_ns_ != 0) {
        const int64_t delay = std::max<int64_t>(deadline_ns_ - clock_.monotonic_ns(), 0);
        timer_ = loop_.call_after(delay, [this] {
            timer_.reset();
            timer_fired();
        });
    }
}

void I6300Esb::timer_fired() {
    bool expired = false;
    {
        const std::lock_guard lock(mutex_);
        if (deadline_ns_ != 0 && clock_.monotonic_ns() >= deadline_ns_) {
            deadline_ns_ = 0;
            if (stage_ == 1) {
                start_stage(2);
            } else {
                expired = (config_.read(kConfigAt, 2) & kConfigNoOutput) == 0;
                if ((config_.read(kLockAt, 1) & kLockFreeRun) != 0 || !expired) {
                    start_stage(1);
                } else {
                    stop();
                    // Off until the guest turns it on again: the action has been taken.
                    config_.set(kLockAt, 1, 0);
                }
                timed_out_ = timed_out_ || expired;
            }
        }
    }
    if (expired) {
        expiries_.increment();
        expired_();  // may reset the machine, and us
    }
    arm();
}

void I6300Esb::pause() {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(paused_, true) && stage_ != 0) {
        remaining_ns_ = std::max<int64_t>(deadline_ns_ - clock_.monotonic_ns(), 0);
        deadline_ns_ = 0;
    }
}

void I6300Esb::resume() {
    const std::lock_guard lock(mutex_);
    if (std::exchange(paused_, false) && stage_ != 0) {
        deadline_ns_ = clock_.monotonic_ns() + remaining_ns_;
        arm_later();
    }
}

// --- State ---

void I6300Esb::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    const int64_t left =
        paused_ ? remaining_ns_ : std::max<int64_t>(deadline_ns_ - clock_.monotonic_ns(), 0);
    out.u64(kFieldConfig, config_.read(kConfigAt, 2))
        .u64(kFieldLock, config_.read(kLockAt, 1))
        .u64(kFieldPreload1, preload_[0])
        .u64(kFieldPreload2, preload_[1])
        .flag(kFieldTimedOut, timed_out_)
        .u64(kFieldStage, stage_)
        .u64(kFieldRemainingNs, stage_ != 0 ? static_cast<uint64_t>(left) : 0)
        .u64(kFieldUnlock, static_cast<uint64_t>(unlock_));
}

Result<void> I6300Esb::load(SectionReader& in) {
    constexpr uint64_t kStageNsMax = (uint64_t{kPreloadMask} << 15) * 31;
    const auto config = static_cast<uint32_t>(TRY(in.u64_max(kFieldConfig, kConfigMask)));
    const auto lock_value = static_cast<uint32_t>(TRY(in.u64_max(kFieldLock, kLockMask)));
    const auto first = static_cast<uint32_t>(TRY(in.u64_max(kFieldPreload1, kPreloadMask)));
    const auto second = static_cast<uint32_t>(TRY(in.u64_max(kFieldPreload2, kPreloadMask)));
    const bool timed_out = TRY(in.flag(kFieldTimedOut));
    const auto stage = static_cast<unsigned>(TRY(in.u64_max(kFieldStage, 2)));
    const auto left = static_cast<int64_t>(TRY(in.u64_max(kFieldRemainingNs, kStageNsMax)));
    const auto unlock = TRY(in.u64_max(kFieldUnlock, static_cast<uint64_t>(Unlock::Open)));
    if ((stage != 0) != ((lock_value & kLockEnable) != 0)) {
        return in.refuse(kFieldStage, "a watchdog runs if and only if it is enabled");
    }
    const std::lock_guard lock(mutex_);
    config_.set(kConfigAt, 2, config);
    config_.set(kLockAt, 1, lock_value);
    preload_[0] = first;
    preload_[1] = second;
    timed_out_ = timed_out;
    stage_ = stage;
    unlock_ = static_cast<Unlock>(unlock);
    remaining_ns_ = left;
    deadline_ns_ = paused_ || stage == 0 ? 0 : clock_.monotonic_ns() + left;
    if (deadline_ns_ != 0) {
        arm_later();
    }
    return {};
}

}  // namespace kumoi::hypervisor
