// Fuzzes the messages of the control stream of a migration: any bytes are read as every kind of
// message. What is read is written again and must be the same.
#include <cstring>
#include <vector>

#include "base/assert.h"
#include "migration/protocol/message.h"

using namespace kumoi;
using namespace kumoi::migration;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) {
        return 0;
    }
    std::vector<std::byte> bytes(size);
    std::memcpy(bytes.data(), data, size);
    if (size >= MessageHeader::kSize) {
        if (const auto header = MessageHeader::decode(std::span(bytes).first(MessageHeader::kSize));
            header.ok()) {
            KUMOI_ASSERT(header.value().length <= kBodyMax);
        }
    }
    if (const auto offer = Offer::decode(bytes); offer.ok()) {
        const auto again = Offer::decode(offer.value().encode());
        KUMOI_ASSERT(again.ok() && again.value().id == offer.value().id);
        KUMOI_ASSERT(again.value().memory_size == offer.value().memory_size);
    }
    if (const auto end = StateEnd::decode(bytes); end.ok()) {
        KUMOI_ASSERT(StateEnd::decode(end.value().encode()).value().round == end.value().round);
    }
    if (const auto accepted = Acceptance::decode(bytes); accepted.ok()) {
        const auto again = Acceptance::decode(accepted.value().encode());
        KUMOI_ASSERT(again.value().delta == accepted.value().delta);
    }
    if (const auto word = decode_handover(bytes); word.ok()) {
        KUMOI_ASSERT(encode_handover(word.value()) == bytes);
    }
    KUMOI_ASSERT(decode_text(bytes).size() <= bytes.size());
    ReceivedState state;
    std::span<const std::byte> rest(bytes);
    while (rest.size() > 1) {  // a length, then that much of a section
        const size_t length = std::min<size_t>(static_cast<size_t>(rest.front()), rest.size() - 1);
        if (const auto added = state.add(rest.subspan(1, length)); !added.ok()) {
            break;
        }
        rest = rest.subspan(1 + length);
    }
    KUMOI_ASSERT(state.count() <= kSectionsMax);
    return 0;
}
