// GuestAgent: commands for the QEMU guest agent in a guest, over the channel that its kumoi-vmm
// shows on the host (docs/reference/guest-agent.md). Blocking, with a deadline on everything. One
// thread at a time; a connection is for a few commands in a row, nobody else's meanwhile.
//
//     auto agent = TRY(GuestAgent::connect(folder.agent_socket(), options, random));
//     TRY(agent.set_user_password("root", "secret"));
//
// What comes from the guest is hostile: its size is bounded, nothing it says is believed beyond the
// answer to a question, and its words enter an error only cut and cleaned.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/json.h"
#include "base/random.h"
#include "base/result.h"

namespace kumoi::compute {

struct GuestAgentOptions {
    int64_t sync_timeout_ms = 10'000;     // until it answers at all
    int64_t command_timeout_ms = 30'000;  // of one command after that
};

class GuestAgent {
public:
    static constexpr size_t kAnswerMax = 64u << 10;  // bytes of one line
    static constexpr size_t kStaleMax = 1u << 20;    // answers to others, passed over in sync()

    // Connects and makes sure that an agent listens: Timeout when none does.
    static Result<GuestAgent> connect(const std::string& path, const GuestAgentOptions& options,
                                      Random& random);

    // The "return" of the answer; Unsupported when the agent does not know the command.
    Result<Json> call(std::string_view command, Json arguments = Json::object());
    Result<void> ping();
    Result<void> set_user_password(const std::string& user, const std::string& password);
    Result<int64_t> freeze();  // how many file systems stand still now
    Result<int64_t> thaw();
    Result<bool> is_frozen();

private:
    GuestAgent(UniqueFd fd, const GuestAgentOptions& options)
        : fd_(std::move(fd)), options_(options) {}
    Result<void> sync(Random& random);
    Result<void> send(std::string_view bytes, int64_t deadline_ns);
    Result<void> skip_to_sentinel(size_t& budget, int64_t deadline_ns);
    Result<std::string> line(int64_t deadline_ns);
    Result<void> fill(int64_t deadline_ns);

    UniqueFd fd_;
    const GuestAgentOptions options_;
    std::string buffer_;
};

}  // namespace kumoi::compute
