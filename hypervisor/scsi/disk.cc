#include "hypervisor/scsi/disk.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "hypervisor/scsi/wire.h"

namespace kumoi::hypervisor {

using namespace scsi;

namespace {

enum Opcode : uint8_t {
    kTestUnitReady = 0x00,
    kRequestSense = 0x03,
    kRead6 = 0x08,
    kWrite6 = 0x0a,
    kInquiry = 0x12,
    kModeSelect6 = 0x15,
    kModeSense6 = 0x1a,
    kStartStopUnit = 0x1b,
    kReadCapacity10 = 0x25,
    kRead10 = 0x28,
    kWrite10 = 0x2a,
    kVerify10 = 0x2f,
    kSynchronizeCache10 = 0x35,
    kWriteSame10 = 0x41,
    kUnmap = 0x42,
    kModeSelect10 = 0x55,
    kModeSense10 = 0x5a,
    kRead16 = 0x88,
    kWrite16 = 0x8a,
    kVerify16 = 0x8f,
    kSynchronizeCache16 = 0x91,
    kWriteSame16 = 0x93,
    kServiceActionIn16 = 0x9e,
    kReportLuns = 0xa0,
    kRead12 = 0xa8,
    kWrite12 = 0xaa,
    kVerify12 = 0xaf,
};

constexpr uint32_t kPhysicalBlock = 4096;  // what hosts have
constexpr size_t kPatternBuffer = 64 << 10;
constexpr uint8_t kCachingPage = 0x08;
constexpr uint8_t kWriteCacheEnable = 0x04;
constexpr size_t kUnmapHeader = 8;
constexpr size_t kUnmapDescriptor = 16;

std::array<uint8_t, 16> padded(std::span<const uint8_t> cdb) {
    std::array<uint8_t, 16> result{};
    std::ranges::copy(cdb.first(std::min(cdb.size(), result.size())), result.begin());
    return result;
}

ScsiReply illegal(uint16_t code) {
    return check(kIllegalRequest, code);
}

}  // namespace

ScsiDisk::ScsiDisk(const DiskImage& image, std::atomic<bool>& write_cache, std::string serial)
    : image_(image),
      block_size_(image.block_size()),
      write_cache_(write_cache),
      serial_(serial.substr(0, kSerialSizeMax)),
      attention_(kPowerOn) {}

void ScsiDisk::reset() {
    attention_ = kPowerOn;
}

void ScsiDisk::logical_unit_reset() {
    attention_ = kDeviceReset;
}

void ScsiDisk::capacity_changed() {
    attention_ = attention_ == 0 ? kCapacityChanged : attention_;  // a reset tells everything
}

ScsiReply ScsiDisk::failed(DiskOperation operation, int result) const {
    if (operation == DiskOperation::Read) {
        return check(kMediumError, kUnrecoveredRead);
    }
    if (result == -ENOSPC || result == -EDQUOT) {
        return check(kDataProtect, kSpaceAllocationFailed);
    }
    return check(kMediumError, kWriteError);
}

size_t ScsiDisk::parameter_size(std::span<const uint8_t> cdb) const {
    const Cdb command = padded(cdb);
    const auto bytes = std::span(command);
    switch (command[0]) {
        case kModeSelect6: return command[4];
        case kModeSelect10:
        case kUnmap: return big(bytes.subspan(7, 2));
        case kWriteSame10: return block_size_;
        case kWriteSame16: return (command[1] & 1) != 0 ? 0 : block_size_;  // no data-out buffer
        default: return 0;
    }
}

ScsiReply ScsiDisk::execute(std::span<const uint8_t> cdb, std::span<const uint8_t> parameters) {
    return execute_padded(padded(cdb), parameters);
}

ScsiReply ScsiDisk::execute_padded(const Cdb& cdb, std::span<const uint8_t> parameters) {
    const auto bytes = std::span(cdb);
    // SPC-5 §5.14: these are answered whatever has happened.
    switch (cdb[0]) {
        case kInquiry: return inquiry(cdb);
        case kRequestSense: return request_sense(cdb);
        case kReportLuns: {
            Bytes luns;
            luns.u32(8).zeros(12);  // LUN 0
            return data(luns, big(bytes.subspan(6, 4)));
        }
        default: break;
    }
    if (attention_ != 0) {
        return check(kUnitAttention, std::exchange(attention_, 0));
    }
    const Range six{big(bytes.subspan(1, 3)) & 0x1fffff, cdb[4] == 0 ? 256u : cdb[4]};
    const Range ten{big(bytes.subspan(2, 4)), big(bytes.subspan(7, 2))};
    const Range twelve{big(bytes.subspan(2, 4)), big(bytes.subspan(6, 4))};
    const Range sixteen{big(bytes.subspan(2, 8)), big(bytes.subspan(10, 4))};
    switch (cdb[0]) {
        case kTestUnitReady:
        case kStartStopUnit: return {};  // it spins or not: nobody can tell
        case kModeSense6: return mode_sense(cdb, false);
        case kModeSense10: return mode_sense(cdb, true);
        case kModeSelect6: return mode_select(cdb, false, parameters);
        case kModeSelect10: return mode_select(cdb, true, parameters);
        case kReadCapacity10: return read_capacity10();
        case kServiceActionIn16: return service_action_in(cdb);
        case kRead6: return transfer(DiskOperation::Read, six, 0);
        case kRead10: return transfer(DiskOperation::Read, ten, cdb[1]);
        case kRead12: return transfer(DiskOperation::Read, twelve, cdb[1]);
        case kRead16: return transfer(DiskOperation::Read, sixteen, cdb[1]);
        case kWrite6: return transfer(DiskOperation::Write, six, 0);
        case kWrite10: return transfer(DiskOperation::Write, ten, cdb[1]);
        case kWrite12: return transfer(DiskOperation::Write, twelve, cdb[1]);
        case kWrite16: return transfer(DiskOperation::Write, sixteen, cdb[1]);
        case kVerify10: return verify(ten, cdb[1]);
        case kVerify12: return verify(twelve, cdb[1]);
        case kVerify16: return verify(sixteen, cdb[1]);
        case kSynchronizeCache10: return transfer(DiskOperation::Flush, ten, 0);
        case kSynchronizeCache16: return transfer(DiskOperation::Flush, sixteen, 0);
        case kUnmap: return unmap(parameters);
        case kWriteSame10: return write_same(cdb, ten, parameters);
        case kWriteSame16: return write_same(cdb, sixteen, parameters);
        default: return illegal(kInvalidOpcode);
    }
}

// Every failed command has carried its own sense data; what is left is what waits to be told.
ScsiReply ScsiDisk::request_sense(const Cdb& cdb) {
    const uint16_t code = std::exchange(attention_, 0);
    ScsiReply sense = check(code == 0 ? kNoSense : kUnitAttention, code);
    return data(std::move(sense.sense), cdb[4]);
}

// --- What it is ---

ScsiReply ScsiDisk::inquiry(const Cdb& cdb) const {
    const uint64_t allocation = big(std::span(cdb).subspan(3, 2));
    if ((cdb[1] & 1) != 0) {
        ScsiReply reply = vital_product_data(cdb[2]);
        return reply.status == kGood ? data(std::move(reply.data), allocation) : reply;
    }
    if (cdb[2] != 0) {
        return illegal(kInvalidField);
    }
    constexpr uint8_t kCommandQueuing = 0x02;
    Bytes bytes;
    bytes.u8(0).u8(0).u8(0x07).u8(0x02).u8(31).zeros(2).u8(kCommandQueuing);  // SPC-5
    bytes.padded("kumoi", 8).padded("DISK", 16).padded("1.0", 4);
    return data(bytes, allocation);
}

ScsiReply ScsiDisk::vital_product_data(uint8_t page) const {
    Bytes bytes;
    bytes.u8(0).u8(page);
    switch (page) {
        case 0x00: {  // the pages there are
            bytes.u16(thin() ? 6 : 5).u8(0x00).u8(0x80).u8(0x83).u8(0xb0).u8(0xb1);
            if (thin()) {
                bytes.u8(0xb2);
            }
            break;
        }
        case 0x80: bytes.u16(serial_.size()).padded(serial_, serial_.size()); break;
        case 0x83:  // one T10 vendor identification, in ASCII
            bytes.u16(12 + serial_.size()).u8(0x02).u8(0x01).u8(0);
            bytes.u8(8 + serial_.size()).padded("kumoi", 8).padded(serial_, serial_.size());
            break;
        case 0xb0: {  // block limits, SBC-4 §6.6.4
            constexpr uint8_t kZeroLengthRefused = 1;
            constexpr uint32_t kAlignmentValid = 1u << 31;
            const uint64_t step = kPhysicalBlock / block_size_;
            const uint64_t unmap_blocks = thin() ? kRangeBytesMax / block_size_ : 0;
            bytes.u16(0x3c).u8(kZeroLengthRefused).u8(0).u16(step);
            bytes.u32(kTransferBytesMax / block_size_).u32(0).u32(0);
            bytes.u32(unmap_blocks).u32(thin() ? 1 : 0).u32(step).u32(kAlignmentValid);
            bytes.u64(kRangeBytesMax / block_size_).zeros(20);
            break;
        }
        case 0xb1: bytes.u16(0x3c).u16(1).zeros(58); break;  // does not rotate
        case 0xb2: {                                         // thin: unmap and both write sames
            if (!thin()) {
                return illegal(kInvalidField);
            }
            bytes.u16(4).u8(0).u8(0xe0).u8(2).u8(0);
            break;
        }
        default: return illegal(kInvalidField);
    }
    return data(bytes, UINT16_MAX);
}

ScsiReply ScsiDisk::read_capacity10() const {
    const uint64_t last = std::max<uint64_t>(block_count(), 1) - 1;
    Bytes bytes;
    bytes.u32(std::min<uint64_t>(last, UINT32_MAX)).u32(block_size_);
    return data(bytes, 8);
}

ScsiReply ScsiDisk::service_action_in(const Cdb& cdb) const {
    constexpr uint8_t kReadCapacity16 = 0x10;
    if ((cdb[1] & 0x1f) != kReadCapacity16) {
        return illegal(kInvalidField);
    }
    constexpr uint8_t kExponent = 3;  // of logical blocks a physical one
    constexpr uint16_t kProvisioned = 0x8000;
    Bytes bytes;
    bytes.u64(std::max<uint64_t>(block_count(), 1) - 1).u32(block_size_).u8(0);
    bytes.u8(block_size_ == kPhysicalBlock ? 0 : kExponent).u16(thin() ? kProvisioned : 0);
    bytes.zeros(16);
    return data(bytes, big(std::span(cdb).subspan(10, 4)));
}

// --- Mode pages ---

std::vector<uint8_t> ScsiDisk::caching_page(bool write_cache) const {
    Bytes bytes;
    bytes.u8(kCachingPage).u8(0x12).u8(write_cache ? kWriteCacheEnable : 0).zeros(17);
    return bytes.take();
}

// `control`: current, changeable or default values (SPC-5 table 202).
std::vector<uint8_t> ScsiDisk::mode_pages(uint8_t page, uint8_t control) const {
    constexpr uint8_t kAll = 0x3f;
    constexpr uint8_t kErrorRecovery = 0x01;
    constexpr uint8_t kControl = 0x0a;
    const bool writable = !image_.read_only();
    const bool cache = control == 0   ? write_cache_.load()
                       : control == 1 ? writable
                                      : image_.write_cache();
    Bytes bytes;
    if (page == kErrorRecovery || page == kAll) {
        bytes.u8(kErrorRecovery).u8(0x0a).zeros(10);
    }
    if (page == kCachingPage || page == kAll) {
        bytes.append(caching_page(cache && writable));
    }
    if (page == kControl || page == kAll) {
        bytes.u8(kControl).u8(0x0a).zeros(10);
    }
    return bytes.take();
}

ScsiReply ScsiDisk::mode_sense(const Cdb& cdb, bool ten) const {
    constexpr uint8_t kSaved = 3;
    constexpr uint8_t kProtected = 0x80;
    constexpr uint8_t kForceUnitAccess = 0x10;
    const uint8_t control = cdb[2] >> 6;
    if (control == kSaved) {
        return illegal(kSavingNotSupported);
    }
    const std::vector<uint8_t> pages = mode_pages(cdb[2] & 0x3f, control);
    if (pages.empty() || (cdb[3] != 0 && cdb[3] != 0xff)) {
        return illegal(kInvalidField);
    }
    Bytes descriptor;
    if ((cdb[1] & 0x08) == 0) {  // block descriptors are not disabled
        descriptor.u32(std::min<uint64_t>(block_count(), UINT32_MAX)).u32(block_size_);
    }
    const size_t size = descriptor.size();
    const uint8_t specific = kForceUnitAccess | (image_.read_only() ? kProtected : 0);
    Bytes bytes;
    if (ten) {
        bytes.u16(6 + size + pages.size()).u8(0).u8(specific).u16(0).u16(size);
    } else {
        bytes.u8(3 + size + pages.size()).u8(0).u8(specific).u8(size);
    }
    bytes.append(descriptor.take()).append(pages);
    return data(bytes, ten ? big(std::span(cdb).subspan(7, 2)) : cdb[4]);
}

// Only the write cache can be changed; a page that asks for more is refused (SPC-5 §6.11).
ScsiReply ScsiDisk::mode_select(const Cdb& cdb, bool ten, std::span<const uint8_t> parameters) {
    constexpr uint8_t kPageFormat = 0x10;
    constexpr uint8_t kSavePages = 0x01;
    if ((cdb[1] & kPageFormat) == 0 || (cdb[1] & kSavePages) != 0) {
        return illegal(kInvalidField);
    }
    if (parameters.empty()) {
        return {};
    }
    const size_t header = ten ? 8 : 4;
    if (parameters.size() < header) {
        return illegal(kParameterListLength);
    }
    const uint64_t descriptors = ten ? big(parameters.subspan(6, 2)) : parameters[3];
    if (descriptors > parameters.size() - header) {
        return illegal(kParameterListLength);
    }
    auto rest = parameters.subspan(header + descriptors);
    while (!rest.empty()) {
        if (rest.size() < 2 || rest[1] + 2u > rest.size()) {
            return illegal(kParameterListLength);
        }
        ScsiReply reply = set_caching_page(rest.first(rest[1] + 2u));
        if (reply.status != kGood) {
            return reply;
        }
        rest = rest.subspan(rest[1] + 2u);
    }
    return {};
}

ScsiReply ScsiDisk::set_caching_page(std::span<const uint8_t> page) {
    const bool wanted = page.size() > 2 && (page[2] & kWriteCacheEnable) != 0;
    std::vector<uint8_t> possible = caching_page(wanted);
    if (!std::ranges::equal(page, possible) || (wanted && image_.read_only())) {
        return illegal(kInvalidParameter);
    }
    write_cache_ = wanted;
    return {};
}

// --- The medium ---

bool ScsiDisk::contains(const Range& range) const {
    return range.block <= block_count() && range.count <= block_count() - range.block;
}

ScsiReply ScsiDisk::transfer(DiskOperation operation, const Range& range, uint8_t flags) const {
    constexpr uint8_t kProtection = 0xe0;
    constexpr uint8_t kForceUnitAccess = 0x08;
    if ((flags & kProtection) != 0) {  // no protection information here
        return illegal(kInvalidField);
    }
    if (!contains(range)) {
        return illegal(kOutOfRange);
    }
    ScsiReply reply;
    if (operation == DiskOperation::Flush) {  // of everything, whatever the range
        reply.transfer = {.operation = operation};
        return reply;
    }
    if (bytes(range.count) > kTransferBytesMax) {
        return illegal(kInvalidField);
    }
    if (operation == DiskOperation::Write && image_.read_only()) {
        return check(kDataProtect, kWriteProtected);
    }
    if (range.count > 0) {
        reply.transfer = {.operation = operation,
                          .offset = bytes(range.block),
                          .size = bytes(range.count),
                          .durable = (flags & kForceUnitAccess) != 0};
    }
    return reply;
}

// Without a comparison there is nothing to do: the host's storage checks what it reads.
ScsiReply ScsiDisk::verify(const Range& range, uint8_t flags) const {
    constexpr uint8_t kProtectionAndCompare = 0xe6;
    if ((flags & kProtectionAndCompare) != 0) {
        return illegal(kInvalidField);
    }
    return contains(range) ? ScsiReply{} : illegal(kOutOfRange);
}

ScsiReply ScsiDisk::unmap(std::span<const uint8_t> parameters) const {
    if (!thin()) {
        return illegal(kInvalidOpcode);
    }
    if (parameters.empty()) {
        return {};
    }
    if (parameters.size() < kUnmapHeader) {
        return illegal(kParameterListLength);
    }
    const uint64_t list = big(parameters.subspan(2, 2));
    const uint64_t there = std::min<uint64_t>(list, parameters.size() - kUnmapHeader);
    if (there > kUnmapDescriptor) {
        return illegal(kInvalidParameter);  // the block limits page said one
    }
    if (there < kUnmapDescriptor) {
        return {};  // SBC-4 §5.35: a part of a descriptor is none
    }
    const Range range{big(parameters.subspan(kUnmapHeader, 8)),
                      big(parameters.subspan(kUnmapHeader + 8, 4))};
    if (!contains(range)) {
        return illegal(kOutOfRange);
    }
    if (bytes(range.count) > kRangeBytesMax) {
        return illegal(kInvalidParameter);
    }
    ScsiReply reply;
    if (range.count > 0) {
        reply.transfer = {.operation = DiskOperation::Discard,
                          .offset = bytes(range.block),
                          .size = bytes(range.count),
                          .may_unmap = true};
    }
    return reply;
}

ScsiReply ScsiDisk::write_same(const Cdb& cdb, const Range& range,
                               std::span<const uint8_t> block) const {
    constexpr uint8_t kProtectionAndAnchor = 0xf0;
    constexpr uint8_t kUnmapBit = 0x08;
    const bool unmap = (cdb[1] & kUnmapBit) != 0;
    if ((cdb[1] & kProtectionAndAnchor) != 0 || (unmap && !thin()) || range.count == 0 ||
        bytes(range.count) > kRangeBytesMax) {
        return illegal(kInvalidField);
    }
    if (!contains(range)) {
        return illegal(kOutOfRange);
    }
    if (image_.read_only()) {
        return check(kDataProtect, kWriteProtected);
    }
    ScsiReply reply;
    reply.transfer = {.operation = DiskOperation::WriteZeroes,
                      .offset = bytes(range.block),
                      .size = bytes(range.count),
                      .may_unmap = unmap};
    if (std::ranges::all_of(block, [](uint8_t byte) { return byte == 0; })) {
        return reply;
    }
    if (bytes(range.count) > kPatternBytesMax) {
        return illegal(kInvalidField);
    }
    reply.transfer->operation = DiskOperation::Write;
    std::vector<std::byte>& pattern = reply.transfer->pattern;
    pattern.resize(std::min<uint64_t>(kPatternBuffer, bytes(range.count)));
    for (size_t i = 0; i < pattern.size(); ++i) {
        pattern[i] = static_cast<std::byte>(block[i % block.size()]);
    }
    return reply;
}

// --- Snapshots; the write cache is saved by its owner ---

namespace {
constexpr uint16_t kFieldAttention = 1;
}  // namespace

void ScsiDisk::save(SectionWriter& out) const {
    out.u64(kFieldAttention, attention_);
}

Result<void> ScsiDisk::load(SectionReader& in) {
    attention_ = static_cast<uint16_t>(TRY(in.u64_max(kFieldAttention, UINT16_MAX)));
    return {};
}

}  // namespace kumoi::hypervisor
