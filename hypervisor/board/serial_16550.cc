#include "hypervisor/board/serial_16550.h"

#include <algorithm>

namespace kumoi::hypervisor {

namespace {

// Register offsets, data sheet table II.
enum Register : uint64_t { kData, kIer, kIirFcr, kLcr, kMcr, kLsr, kMsr, kScr };

constexpr uint8_t kIerReceive = 0x01;
constexpr uint8_t kIerTransmitEmpty = 0x02;
constexpr uint8_t kIerLineStatus = 0x04;
constexpr uint8_t kIerMask = 0x0f;
constexpr uint8_t kIirNone = 0x01;
constexpr uint8_t kIirTransmitEmpty = 0x02;
constexpr uint8_t kIirReceive = 0x04;
constexpr uint8_t kIirLineStatus = 0x06;
constexpr uint8_t kIirTimeout = 0x0c;
constexpr uint8_t kIirFifos = 0xc0;
constexpr uint8_t kFcrEnable = 0x01;
constexpr uint8_t kFcrClearReceive = 0x02;
constexpr uint8_t kFcrTriggerShift = 6;
constexpr uint8_t kLcrDivisorLatch = 0x80;
constexpr uint8_t kMcrOut2 = 0x08;  // gates the interrupt pin on a PC
constexpr uint8_t kMcrLoop = 0x10;
constexpr uint8_t kMcrMask = 0x1f;
constexpr uint8_t kLsrDataReady = 0x01;
constexpr uint8_t kLsrOverrun = 0x02;
constexpr uint8_t kLsrTransmitIdle = 0x60;  // holding register and shifter empty, always
constexpr uint8_t kMsrConnected = 0xb0;     // CTS, DSR, DCD: somebody listens
constexpr size_t kFifoSize = 16;
constexpr uint8_t kTriggerLevels[4] = {1, 4, 8, 14};

// Fields of the section; never reused.
enum Field : uint16_t {
    kFieldReceived = 1,
    kFieldDivisor = 2,
    kFieldInterruptEnable = 3,
    kFieldFifoControl = 4,
    kFieldLineControl = 5,
    kFieldModemControl = 6,
    kFieldScratch = 7,
    kFieldOverrun = 8,
    kFieldTransmitEmptyPending = 9,
};

}  // namespace

Serial16550::Serial16550(std::unique_ptr<IrqLine> irq, std::function<void(std::string_view)> output)
    : irq_(std::move(irq)), output_(std::move(output)) {}

void Serial16550::io_read(uint64_t offset, std::span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {  // a wide access is several byte accesses on ISA
        data[i] = offset + i < kPortCount ? read_register(offset + i) : uint8_t{0xff};
    }
}

void Serial16550::io_write(uint64_t offset, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size() && offset + i < kPortCount; ++i) {
        write_register(offset + i, data[i]);
    }
}

uint8_t Serial16550::read_register(uint64_t offset) {
    const bool latch = (line_control_ & kLcrDivisorLatch) != 0;
    switch (offset) {
        case kData: return latch ? static_cast<uint8_t>(divisor_) : read_data();
        case kIer: return latch ? static_cast<uint8_t>(divisor_ >> 8) : interrupt_enable_;
        case kIirFcr: {
            const uint8_t identity = interrupt_identity();
            if (identity == kIirTransmitEmpty) {
                transmit_empty_pending_ = false;  // data sheet §8.6: reading IIR clears THRE
                update_interrupt();
            }
            const bool fifos = (fifo_control_ & kFcrEnable) != 0;
            return static_cast<uint8_t>(identity | (fifos ? kIirFifos : 0));
        }
        case kLcr: return line_control_;
        case kMcr: return modem_control_;
        case kLsr: return line_status();
        case kMsr: return modem_status();
        default: return scratch_;
    }
}

void Serial16550::write_register(uint64_t offset, uint8_t value) {
    const bool latch = (line_control_ & kLcrDivisorLatch) != 0;
    switch (offset) {
        case kData:
            if (latch) {
                divisor_ = static_cast<uint16_t>((divisor_ & 0xff00) | value);
            } else {
                write_data(value);
            }
            break;
        case kIer:
            if (latch) {
                divisor_ = static_cast<uint16_t>((divisor_ & 0x00ff) | (value << 8));
                break;
            }
            // Enabling THRE with an empty transmitter raises it at once; drivers count on that.
            if ((value & kIerTransmitEmpty) != 0 && (interrupt_enable_ & kIerTransmitEmpty) == 0) {
                transmit_empty_pending_ = true;
            }
            interrupt_enable_ = value & kIerMask;
            break;
        case kIirFcr: write_fifo_control(value); break;
        case kLcr: line_control_ = value; break;
        case kMcr: modem_control_ = value & kMcrMask; break;
        case kScr: scratch_ = value; break;
        default: break;  // LSR and MSR: writes are for factory tests
    }
    update_interrupt();
}

uint8_t Serial16550::read_data() {
    if (received_.empty()) {
        return 0;
    }
    const uint8_t byte = received_.front();
    received_.pop_front();
    update_interrupt();
    return byte;
}

void Serial16550::write_data(uint8_t value) {
    if ((modem_control_ & kMcrLoop) != 0) {
        if (received_.size() < kFifoSize) {
            received_.push_back(value);
        } else {
            overrun_ = true;
        }
    } else {
        counters_.transmitted.increment();
        const char byte = static_cast<char>(value);
        output_(std::string_view(&byte, 1));
    }
    transmit_empty_pending_ = true;
}

void Serial16550::write_fifo_control(uint8_t value) {
    if ((value & kFcrClearReceive) != 0 || ((value ^ fifo_control_) & kFcrEnable) != 0) {
        // Only what the chip would hold is cleared; the backlog behind it has not arrived yet.
        const size_t held = std::min(received_.size(), kFifoSize);
        received_.erase(received_.begin(), received_.begin() + static_cast<ptrdiff_t>(held));
    }
    fifo_control_ = value & static_cast<uint8_t>(kFcrEnable | (3u << kFcrTriggerShift));
}

uint8_t Serial16550::line_status() {
    uint8_t status = kLsrTransmitIdle;
    if (!received_.empty()) {
        status |= kLsrDataReady;
    }
    if (overrun_) {
        status |= kLsrOverrun;
        overrun_ = false;
        update_interrupt();
    }
    return status;
}

uint8_t Serial16550::modem_status() const {
    if ((modem_control_ & kMcrLoop) == 0) {
        return kMsrConnected;
    }
    // Loopback (data sheet §8.7): RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD.
    const uint8_t out = modem_control_;
    return static_cast<uint8_t>(((out & 0x02) << 3) | ((out & 0x01) << 5) | ((out & 0x0c) << 4));
}

bool Serial16550::receive_trigger_reached() const {
    const bool fifos = (fifo_control_ & kFcrEnable) != 0;
    const size_t level = fifos ? kTriggerLevels[fifo_control_ >> kFcrTriggerShift] : 1;
    return received_.size() >= level;
}

// Priorities: data sheet table IV. Below the trigger level a real chip waits four character times
// and then reports a timeout; with no time between our bytes the timeout is immediate.
uint8_t Serial16550::interrupt_identity() const {
    if ((interrupt_enable_ & kIerLineStatus) != 0 && overrun_) {
        return kIirLineStatus;
    }
    if ((interrupt_enable_ & kIerReceive) != 0 && !received_.empty()) {
        return receive_trigger_reached() ? kIirReceive : kIirTimeout;
    }
    if ((interrupt_enable_ & kIerTransmitEmpty) != 0 && transmit_empty_pending_) {
        return kIirTransmitEmpty;
    }
    return kIirNone;
}

void Serial16550::update_interrupt() {
    const bool gate = (modem_control_ & kMcrOut2) != 0 && (modem_control_ & kMcrLoop) == 0;
    const bool wanted = gate && interrupt_identity() != kIirNone;
    if (wanted != line_asserted_) {
        line_asserted_ = wanted;
        irq_->set_level(wanted);
    }
}

size_t Serial16550::receive(std::string_view bytes) {
    const std::lock_guard lock(mutex_);
    const size_t fits =
        std::min(bytes.size(), kBacklogMax - std::min(kBacklogMax, received_.size()));
    received_.insert(received_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(fits));
    counters_.received.increment(fits);
    counters_.receive_dropped.increment(bytes.size() - fits);
    update_interrupt();
    return fits;
}

void Serial16550::reset() {
    const std::lock_guard lock(mutex_);
    received_.clear();
    divisor_ = 12;
    interrupt_enable_ = 0;
    fifo_control_ = 0;
    line_control_ = 0;
    modem_control_ = 0;
    scratch_ = 0;
    overrun_ = false;
    transmit_empty_pending_ = false;
    update_interrupt();
}

void Serial16550::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    const std::vector<uint8_t> received(received_.begin(), received_.end());
    out.bytes(kFieldReceived, std::span<const uint8_t>(received));
    out.u64(kFieldDivisor, divisor_).u64(kFieldInterruptEnable, interrupt_enable_);
    out.u64(kFieldFifoControl, fifo_control_).u64(kFieldLineControl, line_control_);
    out.u64(kFieldModemControl, modem_control_).u64(kFieldScratch, scratch_);
    out.flag(kFieldOverrun, overrun_).flag(kFieldTransmitEmptyPending, transmit_empty_pending_);
}

Result<void> Serial16550::load(SectionReader& in) {
    const std::lock_guard lock(mutex_);
    const auto received = TRY(in.bytes(kFieldReceived));
    if (received.size() > kBacklogMax) {
        return in.refuse(kFieldReceived, fmt::format("has more than {} bytes", kBacklogMax));
    }
    received_.clear();
    for (const std::byte byte : received) {
        received_.push_back(static_cast<uint8_t>(byte));
    }
    divisor_ = TRY(in.u16(kFieldDivisor));
    interrupt_enable_ = TRY(in.u8(kFieldInterruptEnable)) & kIerMask;
    fifo_control_ =
        TRY(in.u8(kFieldFifoControl)) & static_cast<uint8_t>(kFcrEnable | (3u << kFcrTriggerShift));
    line_control_ = TRY(in.u8(kFieldLineControl));
    modem_control_ = TRY(in.u8(kFieldModemControl)) & kMcrMask;
    scratch_ = TRY(in.u8(kFieldScratch));
    overrun_ = TRY(in.flag(kFieldOverrun));
    transmit_empty_pending_ = TRY(in.flag(kFieldTransmitEmptyPending));
    update_interrupt();
    return {};
}

}  // namespace kumoi::hypervisor
