// The messages of the control stream of a migration, and what is in them. Pure; what comes from a
// peer is hostile.
//
//     header (16 bytes): magic, type u16, 0 u16, length u32, crc32c of the body u32 | body
//
// The bodies are sections (hypervisor/snapshot/section.h): a later release may add fields.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/machine_state.h"
#include "hypervisor/snapshot/section.h"
#include "migration/handover/handover.h"

namespace kumoi::migration {

constexpr uint32_t kProtocolVersion = 1;
constexpr size_t kBodyMax = 16u << 20;    // of one message
constexpr size_t kStateMax = 256u << 20;  // of all sections of a machine together
constexpr size_t kSectionsMax = 4096;
constexpr uint32_t kStreamsMax = 16;

enum class MessageType : uint16_t {
    Offer = 1,     // source: what is coming; the sections of the machine as it is now follow
    Section = 2,   // one section of the machine's state
    OfferEnd = 3,  // source: the offer is complete
    Accepted = 4,  // destination: it fits; send
    Declined = 5,  // destination: a text with every reason
    State = 6,     // source: the sections of the stopped machine came, this is their end
    Handover = 7,  // either: a HandoverMessage
    Beat = 8,      // either: I am alive
    Missing = 10,  // source, post-copy: runs of pages that the destination does not have
    Drained = 11,  // destination, post-copy: it has them all
    Again = 9,     // source: a new connection of a migration whose state was sent
};

struct MessageHeader {
    static constexpr size_t kSize = 16;
    MessageType type = MessageType::Beat;
    uint32_t length = 0;
    uint32_t check = 0;

    std::array<std::byte, kSize> encode() const;
    static Result<MessageHeader> decode(std::span<const std::byte> bytes);
};

struct Message {
    MessageType type = MessageType::Beat;
    std::vector<std::byte> body;
};

using MigrationId = std::array<uint8_t, 16>;

struct Offer {
    uint32_t protocol = kProtocolVersion;
    MigrationId id{};
    uint64_t epoch = 0;
    uint64_t memory_size = 0;  // of the memory file
    uint32_t streams = 0;      // data streams
    std::string program;       // version of the source
    bool post_copy = false;    // it may end so
    std::string shape;         // MachineState::shape_digest()

    struct Disk {  // that comes with the stream
        std::string id;
        uint64_t size = 0;
        bool backing = false;  // what it has from a backing file does not come
    };
    std::vector<Disk> disks;

    std::vector<std::byte> encode() const;
    static Result<Offer> decode(std::span<const std::byte> body);
};

// What the destination can take; one of an older release says nothing.
struct Acceptance {
    bool delta = false;  // FrameType::Delta

    std::vector<std::byte> encode() const;
    static Result<Acceptance> decode(std::span<const std::byte> body);
};

struct StateEnd {
    uint32_t round = 0;  // the last one
    uint32_t sections = 0;
    bool paused = false;     // by its operator: it shall not run at once
    bool post_copy = false;  // it may run before all of its memory is there

    std::vector<std::byte> encode() const;
    static Result<StateEnd> decode(std::span<const std::byte> body);
};

std::vector<std::byte> encode_handover(HandoverMessage message);
Result<HandoverMessage> decode_handover(std::span<const std::byte> body);

std::vector<std::byte> encode_text(std::string_view text);
std::string decode_text(std::span<const std::byte> body);  // unprintable bytes are left out

std::vector<std::byte> encode_section(const hypervisor::SectionWriter& section);

// The sections of one machine, as they come in. Errors when they are too many or too big.
class ReceivedState {
public:
    Result<void> add(std::span<const std::byte> body);
    void clear();
    size_t count() const { return sections_.size(); }
    // Lives as long as this does and nothing is added.
    Result<hypervisor::SectionReader> section(const std::string& name) const;
    hypervisor::SectionSource source() const {
        return [this](const std::string& name) { return section(name); };
    }

private:
    struct Entry {
        uint16_t version = 0;
        std::vector<std::byte> body;
    };
    std::map<std::string, Entry> sections_;
    size_t bytes_ = 0;
};

}  // namespace kumoi::migration
