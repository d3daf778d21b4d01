// The preamble over a connected, non-blocking socket, for both sides, with one deadline for all of
// it. Blocks; any thread.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/random.h"
#include "migration/link/preamble.h"

namespace kumoi::link {

// What a side knows after its preamble.
struct Admission {
    Introduction introduction;
    Encryption encryption = Encryption::None;
    std::string tls_secret;
};

// Exactly that many bytes. Timeout: they did not come in time. Unavailable: the peer has gone.
Result<std::string> receive_exactly(int socket, size_t size, int64_t deadline_ns);
Result<void> send_exactly(int socket, std::string_view bytes, int64_t deadline_ns);

// The key of a migration, or nothing: not known here.
using FindKey = std::function<std::optional<std::string>(const std::array<uint8_t, kIdSize>& id)>;

struct ServedPreamble {
    Admission admission;
    Transcript transcript;
};

// As the side that was called. Whether the id is unknown or the proof wrong, a peer cannot tell.
// `take`: whether this one is wanted; it is refused otherwise. Forbidden: refused.
Result<ServedPreamble> receive_preamble(int socket, Encryption encryption, Random& random,
                                        const FindKey& find,
                                        const std::function<bool(const Introduction&)>& take,
                                        int64_t deadline_ns);
// As the side that calls. Forbidden: refused, or the other side does not know the key.
Result<ServedPreamble> send_preamble(int socket, Introduction introduction, std::string_view key,
                                     Random& random, int64_t deadline_ns);

// Texts that follow the preamble of a question: what is asked, then the answer. Forbidden: it is
// not proved.
enum class Speaker { Caller, Callee };
Result<void> send_text(int socket, const Transcript& transcript, Speaker speaker,
                       std::string_view text, int64_t deadline_ns);
Result<std::string> receive_text(int socket, const Transcript& transcript, Speaker speaker,
                                 int64_t deadline_ns);

}  // namespace kumoi::link
