// Which servers have a channel for the QEMU guest agent, how it enters guest.json, and a guest
// whose file systems stand still for a while.
#pragma once

#include <memory>
#include <string>

#include "base/json.h"
#include "base/random.h"
#include "compute/driver/guest_agent.h"
#include "compute/driver/instance_folder.h"
#include "compute/objects.h"

namespace kumoi::compute {

bool wants_guest_agent(const Properties& image);  // hw_qemu_guest_agent
bool requires_quiesce(const Properties& image);   // os_require_quiesce
// The member "channels" of guest.json.
Json agent_channels(const InstanceFolder& folder);
// Whose password is set: os_admin_user, else what the system calls its administrator.
std::string admin_user(const Properties& image);

// The guest's file systems stand still until end(), or until it goes.
class FrozenGuest {
public:
    static Result<std::unique_ptr<FrozenGuest>> freeze(const std::string& socket,
                                                       const GuestAgentOptions& options,
                                                       Random& random);
    ~FrozenGuest() { end(); }
    FrozenGuest(const FrozenGuest&) = delete;
    FrozenGuest& operator=(const FrozenGuest&) = delete;
    void end();
    void keep() { frozen_ = false; }  // somebody else ends it

private:
    FrozenGuest(std::string socket, const GuestAgentOptions& options, Random& random)
        : socket_(std::move(socket)), options_(options), random_(random) {}
    Result<int64_t> thaw();

    const std::string socket_;
    const GuestAgentOptions options_;
    Random& random_;
    bool frozen_ = true;
};

}  // namespace kumoi::compute
