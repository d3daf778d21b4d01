#include "hypervisor/board/acpi_pm.h"

#include <algorithm>

#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kStatusOffset = 0;
constexpr uint64_t kEnableOffset = 2;
constexpr uint64_t kControlOffset = board::kPm1Control - board::kPmBase;
constexpr uint64_t kTimerOffset = board::kPmTimer - board::kPmBase;
constexpr uint64_t kResetOffset = board::kPmReset - board::kPmBase;
// §4.8.3.1: of the PM1 events only the power button exists here. Timer carry (TMR_STS) is not
// raised; the 32-bit timer wraps once in 20 minutes and every OS of interest just reads it.
constexpr uint16_t kPowerButton = 1u << 8;
// §4.8.3.1.2: what an enable register holds and gives back, raised or not: timer, global lock,
// power and sleep button, RTC. Linux tries each and complains of one that does not stay.
constexpr uint16_t kEnableBits = 1u << 0 | 1u << 5 | kPowerButton | 1u << 9 | 1u << 10;
// §4.8.3.2.1: SCI_EN reads 1 always, because FADT.SMI_CMD is 0: ACPI mode is the only mode.
constexpr uint16_t kSciEnable = 1u << 0;
constexpr uint16_t kSleepEnable = 1u << 13;
constexpr uint16_t kSleepTypeShift = 10;
constexpr uint16_t kSleepTypeMask = 7u << kSleepTypeShift;

uint16_t with_byte(uint16_t word, uint64_t index, uint8_t value) {
    const auto shift = static_cast<unsigned>(index * 8);
    return static_cast<uint16_t>((word & ~(0xffu << shift)) | (unsigned{value} << shift));
}

uint8_t byte_of(uint32_t word, uint64_t index) {
    return static_cast<uint8_t>(word >> (index * 8));
}

}  // namespace

AcpiPm::AcpiPm(const Clock& clock, std::unique_ptr<IrqLine> sci, Requests requests)
    : clock_(clock), sci_(std::move(sci)), requests_(std::move(requests)) {}

uint32_t AcpiPm::timer() const {
    const int64_t now = clock_.monotonic_ns();
    const int64_t seconds = now / kNanosPerSecond;
    const int64_t rest = now % kNanosPerSecond;
    return static_cast<uint32_t>(seconds * kTimerHz + rest * kTimerHz / kNanosPerSecond);
}

void AcpiPm::io_read(uint64_t offset, std::span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    if (offset == kTimerOffset && data.size() == 4) {  // one sample, not four
        const uint32_t ticks = timer();
        for (size_t i = 0; i < 4; ++i) {
            data[i] = byte_of(ticks, i);
        }
        return;
    }
    for (size_t i = 0; i < data.size(); ++i) {
        data[i] = read_byte(offset + i);
    }
}

uint8_t AcpiPm::read_byte(uint64_t offset) const {
    if (offset < kEnableOffset) {
        return byte_of(status_, offset);
    }
    if (offset < kControlOffset) {
        return byte_of(enable_, offset - kEnableOffset);
    }
    if (offset < kControlOffset + 2) {
        return byte_of(static_cast<uint32_t>(control_ | kSciEnable), offset - kControlOffset);
    }
    if (offset >= kTimerOffset && offset < kTimerOffset + 4) {
        return byte_of(timer(), offset - kTimerOffset);
    }
    return 0xff;
}

void AcpiPm::io_write(uint64_t offset, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        write_byte(offset + i, data[i]);
    }
    update_sci();
}

void AcpiPm::write_byte(uint64_t offset, uint8_t value) {
    if (offset < kEnableOffset) {  // status bits clear by writing 1
        const auto cleared =
            static_cast<uint16_t>(unsigned{value} << ((offset - kStatusOffset) * 8));
        status_ &= static_cast<uint16_t>(~cleared);
        return;
    }
    if (offset < kControlOffset) {
        enable_ = with_byte(enable_, offset - kEnableOffset, value) & kEnableBits;
        return;
    }
    if (offset < kControlOffset + 2) {
        const uint16_t written = with_byte(control_, offset - kControlOffset, value);
        control_ = written & kSleepTypeMask;
        const auto type = static_cast<uint8_t>((written & kSleepTypeMask) >> kSleepTypeShift);
        // OVMF turns a machine off by type 0 without asking the DSDT; there is no other sleep.
        if ((written & kSleepEnable) != 0 && (type == board::kSleepTypeS5 || type == 0)) {
            requests_.shutdown();
        }
        return;
    }
    if (offset == kResetOffset && value == board::kPmResetValue) {
        requests_.reset();
    }
}

void AcpiPm::update_sci() {
    const bool wanted = (status_ & enable_) != 0 || gpe_wanted_;
    if (wanted != sci_asserted_) {
        sci_asserted_ = wanted;
        sci_->set_level(wanted);
    }
}

void AcpiPm::set_gpe(bool wanted) {
    const std::lock_guard lock(mutex_);
    gpe_wanted_ = wanted;
    update_sci();
}

bool AcpiPm::press_power_button() {
    const std::lock_guard lock(mutex_);
    status_ |= kPowerButton;
    update_sci();
    return (enable_ & kPowerButton) != 0;
}

void AcpiPm::reset() {
    const std::lock_guard lock(mutex_);
    status_ = 0;
    enable_ = 0;
    control_ = 0;
    update_sci();
}

}  // namespace kumoi::hypervisor
