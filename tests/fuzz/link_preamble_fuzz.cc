// What a peer of a migration link may send before it is known: the three messages of the preamble,
// and a relay's order.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "migration/link/preamble.h"
#include "migration/link/relay.h"

using namespace kumoi::link;

namespace {

void check(bool holds) {
    if (!holds) {
        __builtin_trap();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    if (const auto greeting = parse_greeting(bytes); greeting.ok()) {
        check(parse_greeting(encode(*greeting)).ok());
    }
    if (const auto introduction = parse_introduction(bytes); introduction.ok()) {
        check(introduction->index < introduction->count && introduction->count <= kStreamsMax);
        check(introduction->proof.size() == kProofSize);
        check(parse_introduction(encode(*introduction)).ok());
        const Transcript transcript(std::string(kKeySize, 'k'), {}, *introduction);
        check(transcript.caller_proof() != introduction->proof);
    }
    if (const auto reply = parse_reply(bytes); reply.ok()) {
        check(reply->proof.size() == kProofSize);
    }
    if (const auto order = RelayOrder::parse(std::string(bytes)); order.ok()) {
        check(RelayOrder::parse(order->text()).ok());
    }
    return 0;
}
