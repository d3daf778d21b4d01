#include "migration/link/caller.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "base/unix_socket.h"

namespace kumoi::link {
namespace {

Result<UniqueFd> call(const DoorAddress& door, const CallOptions& options) {
    UniqueFd socket =
        TRY(door.unix_path.empty() ? connect_tcp(door.address, door.port, options.connect_ms)
                                   : connect_unix(door.unix_path, SOCK_NONBLOCK));
    tune_stream(socket.get(), options.silence_ms);
    return socket;
}

Result<ServedPreamble> introduce(int socket, const Introduction& introduction,
                                 const std::string& key, Random& random,
                                 const CallOptions& options) {
    return send_preamble(socket, introduction, key, random,
                         SystemClock().monotonic_ns() + options.preamble_ms * kNanosPerMilli);
}

}  // namespace

std::string DoorAddress::text() const {
    return unix_path.empty() ? fmt::format("{} port {}", address, port) : unix_path;
}

Result<CalledStreams> connect_migration(const DoorAddress& door, const Uuid& id,
                                        const std::string& key, uint32_t round, uint16_t streams,
                                        Random& random, const CallOptions& options) {
    CalledStreams called;
    Introduction introduction;
    introduction.round = round;
    introduction.count = streams;
    introduction.id = id.bytes();
    for (uint16_t index = 0; index < streams; ++index) {
        introduction.index = index;
        LinkStream stream;
        stream.socket = TRY(call(door, options));
        const auto served =
            TRY_CONTEXT(introduce(stream.socket.get(), introduction, key, random, options),
                        "connecting to {}", door.text());
        stream.tls_secret = served.admission.tls_secret;
        called.encryption = served.admission.encryption;
        called.streams.push_back(std::move(stream));
    }
    return called;
}

Result<std::string> ask_about_migration(const DoorAddress& door, const Uuid& id,
                                        const std::string& key, const std::string& question,
                                        Random& random, const CallOptions& options) {
    Introduction introduction;
    introduction.purpose = Purpose::Question;
    introduction.id = id.bytes();
    const UniqueFd socket = TRY(call(door, options));
    const auto served = TRY_CONTEXT(introduce(socket.get(), introduction, key, random, options),
                                    "asking {}", door.text());
    const int64_t deadline = SystemClock().monotonic_ns() + options.answer_ms * kNanosPerMilli;
    TRY(send_text(socket.get(), served.transcript, Speaker::Caller, question, deadline));
    return receive_text(socket.get(), served.transcript, Speaker::Callee, deadline);
}

}  // namespace kumoi::link
