#include "migration/protocol/message.h"

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/little_endian.h"

namespace kumoi::migration {

using hypervisor::SectionReader;
using hypervisor::SectionWriter;

namespace {

constexpr uint32_t kMagic = 0x3143'4d4b;  // "KMC1"
constexpr size_t kSectionHeader = 4;      // version u16, length of the name u16

// Fields of the bodies; never reused.
enum OfferField : uint16_t {
    kOfferProtocol = 1,
    kOfferId = 2,
    kOfferEpoch = 3,
    kOfferMemory = 4,
    kOfferStreams = 5,
    kOfferProgram = 6,
    kOfferShape = 7,
    kOfferPostCopy = 8,
    kOfferDisk = 0x8000,  // a group
};
enum OfferDiskField : uint16_t { kDiskId = 1, kDiskSize = 2, kDiskBacking = 3 };
enum AcceptedField : uint16_t { kAcceptedDelta = 1 };
enum StateField : uint16_t {
    kStateRound = 1,
    kStateSections = 2,
    kStatePaused = 3,
    kStatePostCopy = 0x8000
};

std::vector<std::byte> body_of(const SectionWriter& section) {
    return {section.body().begin(), section.body().end()};
}

}  // namespace

std::array<std::byte, MessageHeader::kSize> MessageHeader::encode() const {
    std::array<std::byte, kSize> bytes{};
    store_little_endian(std::span(bytes), 0, kMagic);
    store_little_endian(std::span(bytes), 4, static_cast<uint16_t>(type));
    store_little_endian(std::span(bytes), 8, length);
    store_little_endian(std::span(bytes), 12, check);
    return bytes;
}

Result<MessageHeader> MessageHeader::decode(std::span<const std::byte> bytes) {
    if (bytes.size() != kSize || load_little_endian<uint32_t>(bytes, 0) != kMagic) {
        return Error::make(ErrorCode::Corrupt,
                           "the control stream of the migration is out of step");
    }
    const auto type = load_little_endian<uint16_t>(bytes, 4);
    if (type < 1 || type > static_cast<uint16_t>(MessageType::Drained)) {
        return Error::make(ErrorCode::Corrupt, "a message of unknown type {} of a migration", type);
    }
    MessageHeader header{static_cast<MessageType>(type), load_little_endian<uint32_t>(bytes, 8),
                         load_little_endian<uint32_t>(bytes, 12)};
    if (header.length > kBodyMax) {
        return Error::make(ErrorCode::Corrupt, "a message of {} bytes of a migration, at most {}",
                           header.length, kBodyMax);
    }
    return header;
}

std::vector<std::byte> Offer::encode() const {
    SectionWriter out("offer", 1);
    out.u64(kOfferProtocol, protocol).bytes(kOfferId, std::span(id)).u64(kOfferEpoch, epoch);
    out.u64(kOfferMemory, memory_size).u64(kOfferStreams, streams);
    out.text(kOfferProgram, program).text(kOfferShape, shape).flag(kOfferPostCopy, post_copy);
    for (const Disk& disk : disks) {
        SectionWriter group("disk", 1);
        group.text(kDiskId, disk.id).u64(kDiskSize, disk.size).flag(kDiskBacking, disk.backing);
        out.group(kOfferDisk, group);
    }
    return body_of(out);
}

Result<Offer> Offer::decode(std::span<const std::byte> body) {
    SectionReader in = TRY(SectionReader::parse("offer", 1, body));
    Offer offer;
    offer.protocol = TRY(in.u32(kOfferProtocol));
    const auto id = TRY(in.bytes(kOfferId, offer.id.size()));
    std::memcpy(offer.id.data(), id.data(), id.size());
    offer.epoch = TRY(in.u64_max(kOfferEpoch, UINT64_MAX - 2));
    offer.memory_size = TRY(in.u64(kOfferMemory));
    offer.streams = TRY(in.u32(kOfferStreams));
    offer.program = TRY(in.text(kOfferProgram, 256));
    offer.shape = TRY(in.text(kOfferShape, 256));
    offer.post_copy = TRY(in.flag(kOfferPostCopy));
    constexpr size_t kDisksMax = 256;
    for (SectionReader& group : in.has(kOfferDisk) ? TRY(in.groups(kOfferDisk, kDisksMax))
                                                   : std::vector<SectionReader>()) {
        Disk disk;
        disk.id = TRY(group.text(kDiskId, 256));
        disk.size = TRY(group.u64(kDiskSize));
        disk.backing = TRY(group.flag(kDiskBacking));
        TRY(group.finish());
        offer.disks.push_back(std::move(disk));
    }
    TRY(in.finish());
    return offer;
}

std::vector<std::byte> Acceptance::encode() const {
    SectionWriter out("accepted", 1);
    out.flag(kAcceptedDelta, delta);
    return body_of(out);
}

Result<Acceptance> Acceptance::decode(std::span<const std::byte> body) {
    Acceptance acceptance;
    if (body.empty()) {
        return acceptance;
    }
    SectionReader in = TRY(SectionReader::parse("accepted", 1, body));
    acceptance.delta = in.has(kAcceptedDelta) && TRY(in.flag(kAcceptedDelta));
    TRY(in.finish());
    return acceptance;
}

std::vector<std::byte> StateEnd::encode() const {
    SectionWriter out("state-end", 1);
    out.u64(kStateRound, round).u64(kStateSections, sections).flag(kStatePaused, paused);
    if (post_copy) {
        out.flag(kStatePostCopy, true);
    }
    return body_of(out);
}

Result<StateEnd> StateEnd::decode(std::span<const std::byte> body) {
    SectionReader in = TRY(SectionReader::parse("state-end", 1, body));
    StateEnd end;
    end.round = TRY(in.u32(kStateRound));
    end.sections = TRY(in.u32(kStateSections));
    end.paused = TRY(in.flag(kStatePaused));
    end.post_copy = in.has(kStatePostCopy) && TRY(in.flag(kStatePostCopy));
    TRY(in.finish());
    return end;
}

std::vector<std::byte> encode_handover(HandoverMessage message) {
    return {static_cast<std::byte>(message)};
}

Result<HandoverMessage> decode_handover(std::span<const std::byte> body) {
    const auto value = body.size() == 1 ? static_cast<uint8_t>(body.front()) : uint8_t{0};
    if (value < 1 || value > static_cast<uint8_t>(HandoverMessage::Refused)) {
        return Error::make(ErrorCode::Corrupt, "an unknown word of the handover: {}", value);
    }
    return static_cast<HandoverMessage>(value);
}

std::vector<std::byte> encode_text(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

std::string decode_text(std::span<const std::byte> body) {
    constexpr size_t kTextMax = 8192;
    std::string text;
    for (const std::byte byte : body.first(std::min(body.size(), kTextMax))) {
        const char letter = static_cast<char>(byte);
        if (letter >= ' ' && letter <= '~') {
            text += letter;
        }
    }
    return text;
}

std::vector<std::byte> encode_section(const SectionWriter& section) {
    std::vector<std::byte> bytes(kSectionHeader);
    store_little_endian(std::span(bytes), 0, section.version());
    store_little_endian(std::span(bytes), 2, static_cast<uint16_t>(section.name().size()));
    const auto name = std::as_bytes(std::span(section.name()));
    bytes.insert(bytes.end(), name.begin(), name.end());
    bytes.insert(bytes.end(), section.body().begin(), section.body().end());
    return bytes;
}

Result<void> ReceivedState::add(std::span<const std::byte> body) {
    const size_t name_size =
        body.size() < kSectionHeader ? 0 : load_little_endian<uint16_t>(body, 2);
    if (name_size == 0 || name_size > hypervisor::kSectionNameMax ||
        body.size() < kSectionHeader + name_size) {
        return Error::make(ErrorCode::Corrupt, "a section of a migrating machine has no name");
    }
    const auto text = body.subspan(kSectionHeader, name_size);
    std::string name(reinterpret_cast<const char*>(text.data()), text.size());
    const auto content = body.subspan(kSectionHeader + name_size);
    bytes_ += body.size();
    if (bytes_ > kStateMax || sections_.size() >= kSectionsMax) {
        return Error::make(ErrorCode::TooLarge,
                           "the state of a migrating machine is beyond {} bytes or {} sections",
                           kStateMax, kSectionsMax);
    }
    const Entry entry{load_little_endian<uint16_t>(body, 0), {content.begin(), content.end()}};
    if (!sections_.emplace(std::move(name), entry).second) {
        return Error::make(ErrorCode::Corrupt, "a section of a migrating machine came twice");
    }
    return {};
}

void ReceivedState::clear() {
    sections_.clear();
    bytes_ = 0;
}

Result<SectionReader> ReceivedState::section(const std::string& name) const {
    const auto found = sections_.find(name);
    if (found == sections_.end()) {
        return Error::not_found("the migrating machine has no section \"{}\"", name);
    }
    return SectionReader::parse(name, found->second.version, found->second.body);
}

}  // namespace kumoi::migration
