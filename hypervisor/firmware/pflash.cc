#include "hypervisor/firmware/pflash.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

// Intel StrataFlash datasheet, command definitions; the comment says what each is called there.
constexpr uint8_t kReadArray = 0xff;
constexpr uint8_t kProgram = 0x40;
constexpr uint8_t kProgramOld = 0x10;
constexpr uint8_t kEraseSetup = 0x20;
constexpr uint8_t kClearStatus = 0x50;
constexpr uint8_t kLockSetup = 0x60;
constexpr uint8_t kReadStatus = 0x70;
constexpr uint8_t kReadIdentifier = 0x90;
constexpr uint8_t kQuery = 0x98;
constexpr uint8_t kWriteToBuffer = 0xe8;
constexpr uint8_t kConfirm = 0xd0;

constexpr uint8_t kReady = 0x80;
constexpr uint8_t kSequenceError = 0x30;  // erase and program error together
constexpr uint8_t kProgramError = 0x10;

constexpr uint8_t kManufacturer = 0x89;  // Intel
constexpr uint8_t kDevice = 0x18;
constexpr uint64_t kQueryStart = 0x10;

constexpr uint16_t kFieldMode = 1;
constexpr uint16_t kFieldStatus = 2;
constexpr uint16_t kFieldCommand = 3;
constexpr uint16_t kFieldBufferLeft = 4;
constexpr uint16_t kFieldBufferOffset = 5;
constexpr uint16_t kFieldBuffer = 6;
constexpr uint16_t kFieldContent = 0x8001;

// JEDEC JESD68.01 tables 2 to 4: what a driver learns about the chip, from offset 0x10.
uint8_t query_byte(uint64_t offset, uint64_t size) {
    const auto blocks = static_cast<uint16_t>(size / Pflash::kBlockSize - 1);
    const auto size_log2 = static_cast<uint8_t>(63 - __builtin_clzll(std::max<uint64_t>(size, 1)));
    const uint8_t table[] = {
        'Q',
        'R',
        'Y',
        0x01,
        0x00,
        0x31,
        0x00,
        0x00,
        0x00,
        0x00,
        0x00,
        0x45,
        0x55,
        0x00,
        0x00,  // supply voltages
        0x07,
        0x07,
        0x0a,
        0x00,  // typical times
        0x04,
        0x04,
        0x04,
        0x00,  // worst times, as factors
        size_log2,
        0x00,
        0x00,  // 8 bits wide
        0x0b,
        0x00,  // a write buffer of 2048 bytes
        0x01,  // one erase region
        static_cast<uint8_t>(blocks),
        static_cast<uint8_t>(blocks >> 8),
        static_cast<uint8_t>(Pflash::kBlockSize >> 8 & 0xff),
        static_cast<uint8_t>(Pflash::kBlockSize >> 16),
        'P',
        'R',
        'I',
        '1',
        '0',
    };
    const uint64_t index = offset - kQueryStart;
    return offset >= kQueryStart && index < sizeof table ? table[index] : uint8_t{0};
}

}  // namespace

Pflash::Pflash(Platform& platform, uint64_t base, std::span<std::byte> content, PflashStore& store)
    : platform_(platform), base_(base), content_(content), store_(store) {}

Result<std::unique_ptr<Pflash>> Pflash::create(Platform& platform, uint64_t base,
                                               std::span<std::byte> content, PflashStore& store) {
    if (content.empty() || content.size() % kBlockSize != 0) {
        return Error::invalid("a flash of {} bytes is not a multiple of {} bytes", content.size(),
                              kBlockSize);
    }
    std::unique_ptr<Pflash> flash(new Pflash(platform, base, content, store));
    TRY(platform.mmio_bus().add(base, content.size(), *flash));
    auto mapped = platform.map_memory(base, content, GuestAccess::ReadOnly);
    if (!mapped) {
        return std::move(mapped).error();  // the destructor leaves the bus
    }
    flash->mapping_ = std::move(mapped).value();
    return flash;
}

Pflash::~Pflash() {
    platform_.mmio_bus().remove(base_);
}

void Pflash::io_read(uint64_t offset, std::span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        data[i] = offset + i < content_.size() ? read_byte(offset + i) : uint8_t{0xff};
    }
}

uint8_t Pflash::read_byte(uint64_t offset) const {
    switch (mode_) {
        case Mode::Array: return static_cast<uint8_t>(content_[offset]);
        case Mode::Status: return status_;
        case Mode::Query: return query_byte(offset & 0xff, content_.size());
        default: break;
    }
    switch (offset & 0xff) {
        case 0: return kManufacturer;
        case 1: return kDevice;
        default: return 0;  // no block is locked
    }
}

void Pflash::io_write(uint64_t offset, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size() && offset + i < content_.size(); ++i) {
        write_byte(offset + i, data[i]);
    }
}

void Pflash::write_byte(uint64_t offset, uint8_t value) {
    if (command_ == 0) {
        first_cycle(offset, value);
    } else if (command_ == kWriteToBuffer) {
        buffer_cycle(offset, value);
    } else {
        second_cycle(offset, value);
    }
}

void Pflash::first_cycle(uint64_t /*offset*/, uint8_t value) {
    switch (value) {
        case kProgram:
        case kProgramOld:
        case kEraseSetup:
        case kLockSetup:
        case kWriteToBuffer:
            command_ = value;
            status_ |= value == kWriteToBuffer ? kReady : 0;
            buffer_.clear();
            set_mode(Mode::Status);
            return;
        case kReadStatus: set_mode(Mode::Status); return;
        case kReadIdentifier: set_mode(Mode::Identifier); return;
        case kQuery: set_mode(Mode::Query); return;
        case kClearStatus:
            status_ = 0;
            enter_array_mode();
            return;
        default: enter_array_mode(); return;  // read array, and what the chip does not know
    }
}

void Pflash::second_cycle(uint64_t offset, uint8_t value) {
    const uint8_t command = std::exchange(command_, uint8_t{0});
    if (command == kProgram || command == kProgramOld) {
        const auto byte = static_cast<std::byte>(value);
        program(offset, std::span(&byte, 1));
        return;
    }
    const bool erase_it = command == kEraseSetup && value == kConfirm;
    if (erase_it) {
        erase(offset);
    } else if (command == kLockSetup && (value == kConfirm || value == 0x01)) {
        status_ |= kReady;  // block lock bits are accepted and not kept
    } else if (value == kReadArray) {
        enter_array_mode();
    } else {
        status_ |= kReady | kSequenceError;
    }
}

// Count, then that many bytes within one buffer, then the confirmation.
void Pflash::buffer_cycle(uint64_t offset, uint8_t value) {
    if (buffer_.empty() && buffer_left_ == 0) {
        buffer_left_ = uint32_t{value} + 1;
        buffer_offset_ = UINT64_MAX;
        return;
    }
    if (buffer_left_ > 0) {
        buffer_offset_ = std::min(buffer_offset_, offset);
        const uint64_t at = offset - buffer_offset_;
        if (at != buffer_.size()) {  // only in order, as every driver does
            command_ = 0;
            buffer_left_ = 0;
            status_ |= kReady | kSequenceError;
            return;
        }
        buffer_.push_back(static_cast<std::byte>(value));
        --buffer_left_;
        return;
    }
    command_ = 0;
    if (value == kConfirm) {
        program(buffer_offset_, buffer_);
    } else {
        status_ |= kReady | kSequenceError;
    }
    buffer_.clear();
}

void Pflash::program(uint64_t offset, std::span<const std::byte> bytes) {
    if (offset >= content_.size() || bytes.size() > content_.size() - offset) {
        status_ |= kReady | kProgramError;
        return;
    }
    std::memcpy(&content_[offset], bytes.data(), bytes.size());
    touched(offset, bytes.size());
    status_ |= kReady;
}

void Pflash::erase(uint64_t offset) {
    const uint64_t start = offset / kBlockSize * kBlockSize;
    std::ranges::fill(content_.subspan(start, kBlockSize), std::byte{0xff});
    touched(start, kBlockSize);
    status_ |= kReady;
}

void Pflash::touched(uint64_t offset, uint64_t size) {
    dirty_start_ = std::min(dirty_start_, offset);
    dirty_end_ = std::max(dirty_end_, offset + size);
}

void Pflash::set_mode(Mode mode) {
    mode_ = mode;
    mapping_.reset();
}

void Pflash::enter_array_mode() {
    command_ = 0;
    buffer_left_ = 0;
    buffer_.clear();
    flush();
    mode_ = Mode::Array;
    map();
}

// A store that fails keeps the range dirty: the next return to read-array mode tries again.
void Pflash::flush() {
    if (dirty_start_ >= dirty_end_) {
        return;
    }
    auto written =
        store_.write(dirty_start_, content_.subspan(dirty_start_, dirty_end_ - dirty_start_));
    if (!written) {
        write_failures_.increment();
        status_ |= kProgramError;
        if (const auto unreported = reports_.admit()) {
            log_error("nvram", "the firmware's variables could not be stored",
                      {{"error", written.error().text()}, {"unreported", *unreported}});
        }
        return;
    }
    dirty_start_ = UINT64_MAX;
    dirty_end_ = 0;
}

// Without the mapping the guest still reads, one exit a read; it could not execute.
bool Pflash::map() {
    if (mapping_) {
        return true;
    }
    auto mapped = platform_.map_memory(base_, content_, GuestAccess::ReadOnly);
    if (!mapped) {
        if (const auto unreported = reports_.admit()) {
            log_warn("nvram", "the flash is not mapped",
                     {{"error", mapped.error().text()}, {"unreported", *unreported}});
        }
        return false;
    }
    mapping_ = std::move(mapped).value();
    return true;
}

void Pflash::reset() {
    const std::lock_guard lock(mutex_);
    enter_array_mode();
    status_ = kReady;
}

void Pflash::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    out.u64(kFieldMode, static_cast<uint64_t>(mode_))
        .u64(kFieldStatus, status_)
        .u64(kFieldCommand, command_)
        .u64(kFieldBufferLeft, buffer_left_)
        .u64(kFieldBufferOffset, buffer_offset_)
        .bytes(kFieldBuffer, buffer_)
        .bytes(kFieldContent, content_);
}

Result<void> Pflash::load(SectionReader& in) {
    const auto mode = static_cast<Mode>(TRY(in.u64_max(kFieldMode, 3)));
    const uint8_t status = TRY(in.u8(kFieldStatus));
    const uint8_t command = TRY(in.u8(kFieldCommand));
    const auto left = static_cast<uint32_t>(TRY(in.u64_max(kFieldBufferLeft, kWriteBufferSize)));
    const uint64_t offset = TRY(in.u64(kFieldBufferOffset));
    const auto buffer = TRY(in.bytes(kFieldBuffer));
    const auto content = TRY(in.bytes(kFieldContent, content_.size()));
    if (buffer.size() > kWriteBufferSize) {
        return in.refuse(kFieldBuffer, "is larger than the chip's write buffer");
    }
    const std::lock_guard lock(mutex_);
    std::ranges::copy(content, content_.begin());
    touched(0, content_.size());
    flush();
    status_ = status;
    command_ = command;
    buffer_left_ = left;
    buffer_offset_ = offset;
    buffer_.assign(buffer.begin(), buffer.end());
    mode_ = mode;
    if (mode == Mode::Array) {
        map();
    } else {
        mapping_.reset();
    }
    return {};
}

}  // namespace kumoi::hypervisor
