#include "hypervisor/board/cmos_rtc.h"

#include <algorithm>
#include <cstring>

#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

namespace {

enum Index : uint8_t {
    kSeconds = 0x00,
    kMinutes = 0x02,
    kHours = 0x04,
    kWeekday = 0x06,
    kDay = 0x07,
    kMonth = 0x08,
    kYear = 0x09,
    kStatusA = 0x0a,
    kStatusB = 0x0b,
    kStatusC = 0x0c,
    kStatusD = 0x0d,
    kEquipment = 0x14,
    kCentury = 0x32,
    kBootFlags = 0x38,
    kBootDevices = 0x3d,
    kProcessorCount = 0x5f,
};
constexpr uint8_t kUpdateInProgress = 0x80;
constexpr uint8_t kStatusADefault = 0x26;  // 32.768 kHz base, 1024 Hz rate
constexpr uint8_t kStatusBDefault = 0x02;  // 24-hour, BCD, no interrupts
constexpr uint8_t kStatusBHours24 = 0x02;
constexpr uint8_t kStatusBBinary = 0x04;
constexpr uint8_t kStatusDValid = 0x80;
constexpr uint8_t kPm = 0x80;
constexpr uint8_t kEquipmentFpu = 0x02;

// Fields of the section; never reused.
enum Field : uint16_t { kFieldRam = 1, kFieldIndex = 2, kFieldOffsetSeconds = 3 };

constexpr int64_t kUpdateNs = 244'000;  // UIP is up for 244 us before each second, data sheet

bool is_time(uint8_t index) {
    return index == kSeconds || index == kMinutes || index == kHours || index == kWeekday ||
           index == kDay || index == kMonth || index == kYear || index == kCentury;
}

constexpr int64_t kOffsetMax = int64_t{1} << 40;  // seconds: 34,000 years

}  // namespace

CmosRtc::CmosRtc(const Clock& clock, uint64_t memory_bytes, uint32_t vcpus) : clock_(clock) {
    ram_[kStatusA] = kStatusADefault;
    ram_[kStatusB] = kStatusBDefault;
    ram_[kStatusD] = kStatusDValid;
    store_memory_size(memory_bytes);
    // What SeaBIOS reads where fw_cfg says nothing: hard disk, then CD-ROM; no floppy to check;
    // processors but the first.
    ram_[kEquipment] = kEquipmentFpu;
    ram_[kBootDevices] = 0x32;
    ram_[kBootFlags] = 0x01;
    ram_[kProcessorCount] = static_cast<uint8_t>(std::min<uint32_t>(vcpus - 1, 0xff));
}

// The registers SeaBIOS and OVMF know: 640 KiB base; KiB above 1 MiB up to 64 MiB; 64 KiB units
// above 16 MiB and below the PCI hole; 64 KiB units above 4 GiB.
void CmosRtc::store_memory_size(uint64_t bytes) {
    const uint64_t low = std::min(bytes, kPciHoleStart);
    const uint64_t high = bytes - low;
    const uint64_t kMib = 1u << 20;
    const uint64_t extended = low > kMib ? std::min<uint64_t>((low - kMib) >> 10, 0xffff) : 0;
    const uint64_t above16 =
        low > 16 * kMib ? std::min<uint64_t>((low - 16 * kMib) >> 16, 0xffff) : 0;
    const uint64_t above4g = std::min<uint64_t>(high >> 16, 0xff'ffff);
    ram_[0x15] = 0x80;
    ram_[0x16] = 0x02;
    for (const uint8_t index : {uint8_t{0x17}, uint8_t{0x30}}) {
        ram_[index] = static_cast<uint8_t>(extended);
        ram_[index + 1] = static_cast<uint8_t>(extended >> 8);
    }
    ram_[0x34] = static_cast<uint8_t>(above16);
    ram_[0x35] = static_cast<uint8_t>(above16 >> 8);
    ram_[0x5b] = static_cast<uint8_t>(above4g);
    ram_[0x5c] = static_cast<uint8_t>(above4g >> 8);
    ram_[0x5d] = static_cast<uint8_t>(above4g >> 16);
}

void CmosRtc::io_read(uint64_t offset, std::span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    std::ranges::fill(data, uint8_t{0xff});
    for (size_t i = 0; i < data.size(); ++i) {
        if (offset + i == 1) {
            data[i] = read_register();
        }
    }
}

void CmosRtc::io_write(uint64_t offset, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        if (offset + i == 0) {
            index_ = data[i] & 0x7f;  // bit 7 masks NMIs on a PC; ours come from the operator
        } else if (offset + i == 1) {
            write_register(data[i]);
        }
    }
}

std::tm CmosRtc::now() const {
    const time_t seconds = clock_.wall_ns() / kNanosPerSecond + offset_seconds_;
    std::tm time{};
    gmtime_r(&seconds, &time);
    return time;
}

bool CmosRtc::update_in_progress() const {
    return clock_.wall_ns() % kNanosPerSecond >= kNanosPerSecond - kUpdateNs;
}

uint8_t CmosRtc::encode(int value) const {
    if ((ram_[kStatusB] & kStatusBBinary) != 0) {
        return static_cast<uint8_t>(value);
    }
    return static_cast<uint8_t>((value / 10) * 16 + value % 10);
}

int CmosRtc::decode(uint8_t value) const {
    return (ram_[kStatusB] & kStatusBBinary) != 0 ? value : (value >> 4) * 10 + (value & 0x0f);
}

uint8_t CmosRtc::encode_hour(int hour) const {
    if ((ram_[kStatusB] & kStatusBHours24) != 0) {
        return encode(hour);
    }
    const int twelve = hour % 12 == 0 ? 12 : hour % 12;
    return static_cast<uint8_t>(encode(twelve) | (hour >= 12 ? kPm : 0));
}

int CmosRtc::decode_hour(uint8_t value) const {
    if ((ram_[kStatusB] & kStatusBHours24) != 0) {
        return decode(value);
    }
    return decode(value & 0x7f) % 12 + ((value & kPm) != 0 ? 12 : 0);
}

uint8_t CmosRtc::read_register() const {
    if (!is_time(index_)) {
        if (index_ == kStatusA) {
            return static_cast<uint8_t>(ram_[kStatusA] |
                                        (update_in_progress() ? kUpdateInProgress : 0));
        }
        return index_ == kStatusC ? uint8_t{0} : ram_[index_];
    }
    const std::tm time = now();
    switch (index_) {
        case kSeconds: return encode(time.tm_sec);
        case kMinutes: return encode(time.tm_min);
        case kHours: return encode_hour(time.tm_hour);
        case kWeekday: return encode(time.tm_wday + 1);
        case kDay: return encode(time.tm_mday);
        case kMonth: return encode(time.tm_mon + 1);
        case kYear: return encode(time.tm_year % 100);
        default: return encode(time.tm_year / 100 + 19);
    }
}

void CmosRtc::write_register(uint8_t value) {
    if (is_time(index_)) {
        set_time_field(index_, value);
    } else if (index_ == kStatusA) {
        ram_[kStatusA] = value & 0x7f;
    } else if (index_ != kStatusC && index_ != kStatusD) {
        ram_[index_] = value;
    }
}

// A guest sets the clock field by field; each write moves our offset. timegm() normalises what is
// out of range, so any byte is a time.
void CmosRtc::set_time_field(uint8_t index, uint8_t value) {
    std::tm time = now();
    const int number = decode(value);
    switch (index) {
        case kSeconds: time.tm_sec = number; break;
        case kMinutes: time.tm_min = number; break;
        case kHours: time.tm_hour = decode_hour(value); break;
        case kDay: time.tm_mday = number; break;
        case kMonth: time.tm_mon = number - 1; break;
        case kYear: time.tm_year = time.tm_year / 100 * 100 + number; break;
        case kCentury: time.tm_year = (number - 19) * 100 + time.tm_year % 100; break;
        default: return;  // the weekday follows from the date
    }
    const int64_t offset = timegm(&time) - clock_.wall_ns() / kNanosPerSecond;
    if (offset >= -kOffsetMax && offset <= kOffsetMax) {  // else a month of 165, again and again
        offset_seconds_ = offset;
    }
}

void CmosRtc::reset() {
    const std::lock_guard lock(mutex_);
    index_ = 0;  // battery RAM and time survive a reset
    ram_[kStatusB] = kStatusBDefault;
}

// The clock of a restored guest shows the time of day, as a PC's does that was off meanwhile.
void CmosRtc::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    out.bytes(kFieldRam, std::span<const uint8_t>(ram_)).u64(kFieldIndex, index_);
    out.u64(kFieldOffsetSeconds, static_cast<uint64_t>(offset_seconds_));
}

Result<void> CmosRtc::load(SectionReader& in) {
    const std::lock_guard lock(mutex_);
    const auto ram = TRY(in.bytes(kFieldRam, ram_.size()));
    const auto offset = static_cast<int64_t>(TRY(in.u64(kFieldOffsetSeconds)));
    if (offset > kOffsetMax || offset < -kOffsetMax) {
        return in.refuse(kFieldOffsetSeconds, fmt::format("is {} seconds", offset));
    }
    index_ = static_cast<uint8_t>(TRY(in.u64_max(kFieldIndex, 0x7f)));
    std::memcpy(ram_.data(), ram.data(), ram.size());
    offset_seconds_ = offset;
    return {};
}

}  // namespace kumoi::hypervisor
