// A WebSocket client's bytes, cut where the input says: the opening request with its approval, then
// frames. What was cut differently must give the same payload.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/websocket.h"

using namespace kumoi;

namespace {

constexpr std::string_view kRequest =
    "GET /?token=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

struct Outcome {
    std::string payload;
    std::string output;
    bool failed = false;
    bool operator==(const Outcome&) const = default;
};

Outcome run(std::string_view bytes, size_t step, bool opened) {
    Outcome outcome;
    WebSocketStream stream({"binary"}, [](const WebSocketRequest& request) -> Result<void> {
        if (request.target.empty() || request.origin == "evil") {
            return Error::invalid("no");
        }
        return {};
    });
    if (opened) {
        (void)stream.receive(kRequest);
    }
    while (!bytes.empty() && !outcome.failed) {
        const std::string_view piece = bytes.substr(0, step);
        bytes.remove_prefix(piece.size());
        auto payload = stream.receive(piece);
        outcome.failed = !payload.ok();
        outcome.payload += payload ? *payload : "";
    }
    outcome.output = stream.take_output();
    return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2 || size > 16384) {
        return 0;
    }
    const bool opened = (data[0] & 1) != 0;
    const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
    const Outcome pieces = run(bytes, 1u + data[1], opened);
    const Outcome whole = run(bytes, bytes.size() + 1, opened);
    // Payload before a broken frame of the same piece is lost with it.
    if (!whole.failed && !pieces.failed && pieces != whole) {
        std::abort();
    }
    if (pieces.failed != whole.failed) {
        std::abort();
    }
    return 0;
}
