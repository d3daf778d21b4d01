#include "hypervisor/scsi/cdrom.h"

#include <algorithm>

#include "hypervisor/scsi/wire.h"

namespace kumoi::hypervisor {

using namespace scsi;

namespace {

enum Opcode : uint8_t {
    kTestUnitReady = 0x00,
    kRequestSense = 0x03,
    kInquiry = 0x12,
    kModeSense6 = 0x1a,
    kStartStopUnit = 0x1b,
    kPreventAllow = 0x1e,
    kReadCapacity10 = 0x25,
    kRead10 = 0x28,
    kSynchronizeCache = 0x35,
    kReadToc = 0x43,
    kGetConfiguration = 0x46,
    kGetEventStatus = 0x4a,
    kReadDiscInformation = 0x51,
    kReadTrackInformation = 0x52,
    kModeSense10 = 0x5a,
    kServiceActionIn16 = 0x9e,
    kReportLuns = 0xa0,
    kRead12 = 0xa8,
    kSetCdSpeed = 0xbb,
    kMechanismStatus = 0xbd,
    kReadCd = 0xbe,
};

constexpr uint16_t kProfileCd = 0x0008;
constexpr uint16_t kProfileDvd = 0x0010;
constexpr uint64_t kCdSectorsMax = 405'000;  // 90 minutes: a larger image is a DVD
constexpr uint32_t kFramesPerSecond = 75;
constexpr uint32_t kLeadInFrames = 150;
constexpr uint8_t kDataTrack = 0x14;  // ADR 1, data, copying prohibited
constexpr uint8_t kLeadOutTrack = 0xaa;

// Minutes, seconds, frames from the start of the lead-in (MMC-6 table 24).
uint32_t msf(uint64_t sector) {
    const uint64_t frames = sector + kLeadInFrames;
    const uint64_t minutes = std::min<uint64_t>(frames / kFramesPerSecond / 60, 255);
    return static_cast<uint32_t>(minutes << 16 | frames / kFramesPerSecond % 60 << 8 |
                                 frames % kFramesPerSecond);
}

std::vector<uint8_t> mode_page(uint8_t page) {
    Bytes bytes;
    if (page == 0x01 || page == 0x3f) {  // read error recovery: defaults
        bytes.u8(0x01).u8(0x0a).zeros(10);
    }
    if (page == 0x2a || page == 0x3f) {  // CD capabilities, MMC-3 §5.5.10
        bytes.u8(0x2a).u8(0x14);
        bytes.u8(0x3b).u8(0x00);  // reads CD-R, CD-RW, DVD-ROM, -R, -RAM; writes nothing
        bytes.u8(0x70).u8(0x00).u8(0x29).u8(0x00);  // mode 2, tray, lock and eject
        bytes.u16(706).u16(2).u16(512).u16(706).zeros(6);
    }
    return bytes.take();
}

}  // namespace

ScsiReply Cdrom::failed(DiskOperation /*operation*/, int /*result*/) const {
    return check(kMediumError, kUnrecoveredRead);
}

Cdrom::Cdrom(uint64_t image_size, std::string serial)
    : sectors_(image_size / kSectorSize), serial_(std::move(serial)) {}

void Cdrom::reset() {
    ejected_ = false;
    locked_ = false;
    media_event_ = true;
}

ScsiReply Cdrom::execute(std::span<const uint8_t> cdb, std::span<const uint8_t> /*parameters*/) {
    Cdb padded{};
    std::ranges::copy(cdb.first(std::min(cdb.size(), padded.size())), padded.begin());
    return execute_padded(padded);
}

ScsiReply Cdrom::execute_padded(const Cdb& cdb) {
    switch (cdb[0]) {
        case kRequestSense: {
            ScsiReply none = check(0, 0);  // every failed command has carried its own
            return data(std::move(none.sense), cdb[4]);
        }
        case kInquiry: return inquiry(cdb);
        case kModeSense6: return mode_sense(cdb, false);
        case kModeSense10: return mode_sense(cdb, true);
        case kStartStopUnit: return start_stop(cdb);
        case kPreventAllow: locked_ = (cdb[4] & 1) != 0; return {};
        case kGetConfiguration: return get_configuration(cdb);
        case kGetEventStatus: return get_event_status(cdb);
        case kReportLuns: {
            Bytes luns;
            luns.u32(8).zeros(12);  // LUN 0
            return data(luns, big(std::span(cdb).subspan(6, 4)));
        }
        case kMechanismStatus: {
            Bytes status;
            status.u8(0).u8(ejected_ ? 0x10 : 0).zeros(6);
            return data(status, big(std::span(cdb).subspan(8, 2)));
        }
        case kSetCdSpeed:
        case kSynchronizeCache: return {};
        default: break;
    }
    return execute_medium(cdb).value_or(check(kIllegalRequest, kInvalidOpcode));
}

// Commands that need a medium; nothing: not one of them.
std::optional<ScsiReply> Cdrom::execute_medium(const Cdb& cdb) {
    const auto bytes = std::span(cdb);
    static constexpr uint8_t kCommands[] = {
        kTestUnitReady, kReadCapacity10,      kServiceActionIn16,   kRead10, kRead12, kReadCd,
        kReadToc,       kReadDiscInformation, kReadTrackInformation};
    if (std::ranges::find(kCommands, cdb[0]) == std::end(kCommands)) {
        return std::nullopt;
    }
    if (!present()) {
        return check(kNotReady, ejected_ ? kTrayOpen : kMediumNotPresent);
    }
    switch (cdb[0]) {
        case kReadCapacity10: return read_capacity(false);
        case kServiceActionIn16: {
            constexpr uint8_t kReadCapacity16 = 0x10;
            if ((cdb[1] & 0x1f) != kReadCapacity16) {
                return check(kIllegalRequest, kInvalidField);
            }
            ScsiReply reply = read_capacity(true);
            return data(std::move(reply.data), big(bytes.subspan(10, 4)));
        }
        case kRead10: return read(big(bytes.subspan(2, 4)), big(bytes.subspan(7, 2)));
        case kRead12: return read(big(bytes.subspan(2, 4)), big(bytes.subspan(6, 4)));
        case kReadCd: {
            constexpr uint8_t kUserDataOnly = 0x10;
            const uint8_t type = cdb[1] >> 2 & 7;  // any, or mode 1
            if ((cdb[9] & 0xf8) != kUserDataOnly || (cdb[10] & 7) != 0 || (type & ~2) != 0) {
                return check(kIllegalRequest, kInvalidField);
            }
            return read(big(bytes.subspan(2, 4)), big(bytes.subspan(6, 3)));
        }
        case kReadToc: return read_toc(cdb);
        case kReadDiscInformation: {
            ScsiReply reply = read_disc_information();
            return data(std::move(reply.data), big(bytes.subspan(7, 2)));
        }
        case kReadTrackInformation: {
            ScsiReply reply = read_track_information();
            return data(std::move(reply.data), big(bytes.subspan(7, 2)));
        }
        default: return ScsiReply{};  // test unit ready
    }
}

ScsiReply Cdrom::inquiry(const Cdb& cdb) const {
    const uint64_t allocation = big(std::span(cdb).subspan(3, 2));
    if ((cdb[1] & 1) != 0) {
        ScsiReply reply = vital_product_data(cdb[2]);
        return reply.status == scsi::kGood ? data(std::move(reply.data), allocation) : reply;
    }
    if (cdb[2] != 0) {
        return check(kIllegalRequest, kInvalidField);
    }
    Bytes bytes;
    bytes.u8(0x05).u8(0x80).u8(0x05).u8(0x02).u8(31).zeros(3);  // a removable MMC device, SPC-3
    bytes.padded("kumoi", 8).padded("CD-ROM", 16).padded("1.0", 4);
    return data(bytes, allocation);
}

ScsiReply Cdrom::vital_product_data(uint8_t page) const {
    Bytes bytes;
    const std::string serial = serial_.substr(0, 36);
    switch (page) {
        case 0x00: bytes.u8(0x05).u8(0).u16(3).u8(0x00).u8(0x80).u8(0x83); break;
        case 0x80: bytes.u8(0x05).u8(page).u16(serial.size()).padded(serial, serial.size()); break;
        case 0x83:  // one T10 vendor identification
            bytes.u8(0x05).u8(page).u16(12 + serial.size()).u8(0x02).u8(0x01).u8(0);
            bytes.u8(8 + serial.size()).padded("kumoi", 8).padded(serial, serial.size());
            break;
        default: return check(kIllegalRequest, kInvalidField);
    }
    return data(bytes, UINT16_MAX);
}

ScsiReply Cdrom::mode_sense(const Cdb& cdb, bool ten) const {
    const uint8_t page = cdb[2] & 0x3f;
    const std::vector<uint8_t> pages = mode_page(page);
    const bool saved = cdb[2] >> 6 == 3;
    if (pages.empty() || saved || cdb[3] != 0) {
        return check(kIllegalRequest, kInvalidField);
    }
    constexpr uint8_t kProtected = 0x80;
    Bytes bytes;
    if (ten) {
        bytes.u16(6 + pages.size()).u8(0).u8(kProtected).zeros(4).append(pages);
    } else {
        bytes.u8(3 + pages.size()).u8(0).u8(kProtected).u8(0).append(pages);
    }
    return data(bytes, ten ? big(std::span(cdb).subspan(7, 2)) : cdb[4]);
}

ScsiReply Cdrom::start_stop(const Cdb& cdb) {
    const bool load_eject = (cdb[4] & 2) != 0;
    const bool start = (cdb[4] & 1) != 0;
    if (!load_eject || (cdb[4] & 0xf0) != 0) {
        return {};  // the disc spins or not: nobody can tell
    }
    if (!start && locked_) {
        return check(kIllegalRequest, kRemovalPrevented);
    }
    media_event_ = media_event_ || (start && ejected_);
    ejected_ = !start;
    return {};
}

ScsiReply Cdrom::read_capacity(bool sixteen) const {
    Bytes bytes;
    if (sixteen) {
        bytes.u64(sectors_ - 1).u32(kSectorSize).zeros(20);
    } else {
        bytes.u32(std::min<uint64_t>(sectors_ - 1, UINT32_MAX)).u32(kSectorSize);
    }
    return data(bytes, 32);
}

ScsiReply Cdrom::read(uint64_t first, uint64_t count) const {
    if (first > sectors_ || count > sectors_ - first) {
        return check(kIllegalRequest, kOutOfRange);
    }
    if (count * kSectorSize > kTransferBytesMax) {
        return check(kIllegalRequest, kInvalidField);
    }
    ScsiReply reply;
    if (count > 0) {
        reply.transfer = {.operation = DiskOperation::Read,
                          .offset = first * kSectorSize,
                          .size = count * kSectorSize};
    }
    return reply;
}

// MMC-6 §6.25: one data track and the lead-out.
ScsiReply Cdrom::read_toc(const Cdb& cdb) const {
    const bool as_time = (cdb[1] & 2) != 0;
    const uint8_t format = (cdb[2] & 0x0f) != 0 ? cdb[2] & 0x0f : cdb[9] >> 6;  // SFF-8020 place
    const uint8_t first = cdb[6];
    const auto address = [as_time](uint64_t sector) -> uint64_t {
        return as_time ? msf(sector) : std::min<uint64_t>(sector, UINT32_MAX);
    };
    Bytes bytes;
    if (format == 1) {  // sessions: one
        bytes.u16(10).u8(1).u8(1).u8(0).u8(kDataTrack).u8(1).u8(0).u32(address(0));
    } else if (format == 0 && (first <= 1 || first == kLeadOutTrack)) {
        const bool with_track = first <= 1;
        bytes.u16(with_track ? 18 : 10).u8(1).u8(1);
        if (with_track) {
            bytes.u8(0).u8(kDataTrack).u8(1).u8(0).u32(address(0));
        }
        bytes.u8(0).u8(kDataTrack).u8(kLeadOutTrack).u8(0).u32(address(sectors_));
    } else {
        return check(kIllegalRequest, kInvalidField);
    }
    return data(bytes, big(std::span(cdb).subspan(7, 2)));
}

// MMC-6 §6.6 and chapter 5: features from `cdb[2..3]` on, all or only those current.
ScsiReply Cdrom::get_configuration(const Cdb& cdb) const {
    const uint64_t first = big(std::span(cdb).subspan(2, 2));
    const bool only_one = (cdb[1] & 3) == 2;
    const bool dvd = sectors_ > kCdSectorsMax;
    const uint16_t profile = !present() ? 0 : dvd ? kProfileDvd : kProfileCd;
    Bytes features;
    const auto feature = [&](uint16_t code, bool current, Bytes body) {
        const bool wanted = only_one ? code == first : code >= first;
        if (wanted && (current || (cdb[1] & 3) != 1)) {
            features.u16(code).u8(0x02 | (current ? 1 : 0)).u8(body.size()).append(body.take());
        }
    };
    Bytes profiles;
    profiles.u16(kProfileDvd).u8(profile == kProfileDvd).u8(0);
    profiles.u16(kProfileCd).u8(profile == kProfileCd).u8(0);
    feature(0x0000, true, profiles);
    feature(0x0001, true, Bytes().u32(1).u32(0));      // core: SCSI
    feature(0x0003, true, Bytes().u8(0x29).zeros(3));  // removable: tray, eject, lock
    feature(0x0010, present(), Bytes().u32(kSectorSize).u16(1).u16(0));
    feature(0x001e, present() && !dvd, Bytes().zeros(4));
    feature(0x001f, present() && dvd, Bytes().zeros(4));
    Bytes bytes;
    const std::vector<uint8_t> list = features.take();
    bytes.u32(4 + list.size()).u16(0).u16(profile).append(list);
    return data(bytes, big(std::span(cdb).subspan(7, 2)));
}

// MMC-6 §6.7: media events, polled.
ScsiReply Cdrom::get_event_status(const Cdb& cdb) {
    constexpr uint8_t kMediaClass = 4;
    constexpr uint8_t kNoEventAvailable = 0x80;
    if ((cdb[1] & 1) == 0) {
        return check(kIllegalRequest, kInvalidField);  // only polled
    }
    Bytes bytes;
    if ((cdb[4] & 1u << kMediaClass) == 0) {
        bytes.u16(2).u8(kNoEventAvailable).u8(1u << kMediaClass);
    } else {
        constexpr uint8_t kNewMedia = 2;
        const uint8_t event = present() && media_event_ ? kNewMedia : 0;
        media_event_ = false;
        bytes.u16(6).u8(kMediaClass).u8(1u << kMediaClass);
        bytes.u8(event).u8((present() ? 2 : 0) | (ejected_ ? 1 : 0)).zeros(2);
    }
    return data(bytes, big(std::span(cdb).subspan(7, 2)));
}

ScsiReply Cdrom::read_disc_information() const {
    Bytes bytes;
    bytes.u16(32).u8(0x0e).u8(1).u8(1).u8(1).u8(1).u8(0x20).u8(0).zeros(25);  // complete, finalized
    return data(bytes, UINT16_MAX);
}

ScsiReply Cdrom::read_track_information() const {
    Bytes bytes;
    bytes.u16(34).u8(1).u8(1).u8(0).u8(0x04).u8(0x01).u8(0).u32(0).zeros(12);
    bytes.u32(std::min<uint64_t>(sectors_, UINT32_MAX)).zeros(8);
    return data(bytes, UINT16_MAX);
}

namespace {
constexpr uint16_t kFieldEjected = 1;
constexpr uint16_t kFieldLocked = 2;
constexpr uint16_t kFieldMediaEvent = 3;
}  // namespace

void Cdrom::save(SectionWriter& out) const {
    out.flag(kFieldEjected, ejected_)
        .flag(kFieldLocked, locked_)
        .flag(kFieldMediaEvent, media_event_);
}

Result<void> Cdrom::load(SectionReader& in) {
    ejected_ = TRY(in.flag(kFieldEjected));
    locked_ = TRY(in.flag(kFieldLocked));
    media_event_ = TRY(in.flag(kFieldMediaEvent));
    return {};
}

}  // namespace kumoi::hypervisor
