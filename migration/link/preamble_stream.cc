#include "migration/link/preamble_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/digest.h"
#include "base/unix_socket.h"

namespace kumoi::link {
namespace {

constexpr std::string_view label_of(Speaker speaker) {
    return speaker == Speaker::Caller ? "kumoi link question" : "kumoi link answer";
}

std::string random_key(Random& random) {
    const auto nonce = make_nonce(random);
    return {nonce.begin(), nonce.end()};
}

}  // namespace

Result<std::string> receive_exactly(int socket, size_t size, int64_t deadline_ns) {
    std::string bytes(size, '\0');
    size_t have = 0;
    while (have < size) {
        const ssize_t count = ::recv(socket, bytes.data() + have, size - have, 0);
        if (count > 0) {
            have += static_cast<size_t>(count);
        } else if (count == 0) {
            return Error::unavailable("the other host has closed the connection");
        } else if (errno != EAGAIN && errno != EINTR) {
            Error error = Error::from_errno(errno, "receiving from the other host");
            error.code = ErrorCode::Unavailable;
            return error;
        } else if (!TRY(wait_ready(socket, POLLIN, deadline_ns))) {
            return Error::timeout("the other host is silent");
        }
    }
    return bytes;
}

Result<void> send_exactly(int socket, std::string_view bytes, int64_t deadline_ns) {
    const bool sent = TRY(send_all(socket, bytes, deadline_ns));
    return sent ? Result<void>() : Error::timeout("the other host takes nothing");
}

Result<ServedPreamble> receive_preamble(int socket, Encryption encryption, Random& random,
                                        const FindKey& find,
                                        const std::function<bool(const Introduction&)>& take,
                                        int64_t deadline_ns) {
    const Greeting greeting{encryption, make_nonce(random)};
    TRY(send_exactly(socket, encode(greeting), deadline_ns));
    const std::string bytes = TRY(receive_exactly(socket, kIntroductionSize, deadline_ns));
    Introduction introduction = TRY(parse_introduction(bytes));
    const auto key = find(introduction.id);
    // An unknown id costs as much as a wrong proof.
    Transcript transcript(key ? *key : random_key(random), greeting, introduction);
    const bool proved = equal_constant_time(transcript.caller_proof(), introduction.proof);
    if (!key || !proved || !take(introduction)) {
        (void)send_exactly(socket, encode(Reply{}), deadline_ns);
        return Error::forbidden("a connection for {} was refused",
                                !key || !proved ? "a migration that is not known here, or with "
                                                  "another key"
                                                : "a stream that is not wanted");
    }
    TRY(send_exactly(socket, encode(Reply{Verdict::Welcome, transcript.callee_proof()}),
                     deadline_ns));
    Admission admission{introduction, encryption, transcript.tls_secret()};
    return ServedPreamble{std::move(admission), std::move(transcript)};
}

Result<ServedPreamble> send_preamble(int socket, Introduction introduction, std::string_view key,
                                     Random& random, int64_t deadline_ns) {
    const std::string hello = TRY(receive_exactly(socket, kGreetingSize, deadline_ns));
    const Greeting greeting = TRY(parse_greeting(hello));
    introduction.nonce = make_nonce(random);
    Transcript transcript(key, greeting, introduction);
    introduction.proof = transcript.caller_proof();
    TRY(send_exactly(socket, encode(introduction), deadline_ns));
    const std::string bytes = TRY(receive_exactly(socket, kReplySize, deadline_ns));
    const Reply reply = TRY(parse_reply(bytes));
    if (reply.verdict != Verdict::Welcome) {
        return Error::forbidden("the other host refuses the connection")
            .with_hint("The migration is not known there any more, or it is full.");
    }
    if (!equal_constant_time(reply.proof, transcript.callee_proof())) {
        return Error::forbidden("the other host does not know the key of the migration");
    }
    Admission admission{introduction, greeting.encryption, transcript.tls_secret()};
    return ServedPreamble{std::move(admission), std::move(transcript)};
}

// Its size as 32 bits, the text, the proof over it.
Result<void> send_text(int socket, const Transcript& transcript, Speaker speaker,
                       std::string_view text, int64_t deadline_ns) {
    if (text.size() > kTextMax) {
        return Error::too_large("a text of {} bytes; at most {}", text.size(), kTextMax);
    }
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) {
        bytes.push_back(static_cast<char>(text.size() >> shift));
    }
    bytes += text;
    bytes += transcript.proof_of(label_of(speaker), text);
    return send_exactly(socket, bytes, deadline_ns);
}

Result<std::string> receive_text(int socket, const Transcript& transcript, Speaker speaker,
                                 int64_t deadline_ns) {
    const std::string head = TRY(receive_exactly(socket, 4, deadline_ns));
    size_t size = 0;
    for (const char byte : head) {
        size = size << 8 | static_cast<uint8_t>(byte);
    }
    if (size > kTextMax) {
        return Error::too_large("the other host's text has {} bytes; at most {}", size, kTextMax);
    }
    std::string text = TRY(receive_exactly(socket, size, deadline_ns));
    const std::string proof = TRY(receive_exactly(socket, kProofSize, deadline_ns));
    if (!equal_constant_time(proof, transcript.proof_of(label_of(speaker), text))) {
        return Error::forbidden("the other host's text is not proved");
    }
    return text;
}

}  // namespace kumoi::link
