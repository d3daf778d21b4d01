#include "compute/driver/guest_agent_channel.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "base/log.h"

namespace kumoi::compute {
namespace {

constexpr char kPortName[] = "org.qemu.guest_agent.0";  // where QEMU's agent looks for it
constexpr int kThawAttempts = 3;

std::string property(const Properties& image, const char* name) {
    const auto found = image.find(name);
    return found == image.end() ? "" : found->second;
}

// As oslo.utils reads a boolean.
bool is_true(std::string text) {
    constexpr std::array<std::string_view, 6> kWords = {"1", "t", "true", "on", "y", "yes"};
    std::ranges::transform(text, text.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return std::ranges::find(kWords, text) != kWords.end();
}

}  // namespace

bool wants_guest_agent(const Properties& image) {
    return is_true(property(image, "hw_qemu_guest_agent"));
}

bool requires_quiesce(const Properties& image) {
    return is_true(property(image, "os_require_quiesce"));
}

Json agent_channels(const InstanceFolder& folder) {
    Json channels = Json::array();
    channels.push_back(Json::object({{"name", kPortName}, {"socket", folder.agent_socket()}}));
    return channels;
}

std::string admin_user(const Properties& image) {
    const std::string user = property(image, "os_admin_user");
    if (!user.empty()) {
        return user;
    }
    return property(image, "os_type") == "windows" ? "Administrator" : "root";
}

Result<std::unique_ptr<FrozenGuest>> FrozenGuest::freeze(const std::string& socket,
                                                         const GuestAgentOptions& options,
                                                         Random& random) {
    auto agent = TRY(GuestAgent::connect(socket, options, random));
    // From here on it may be frozen whatever the answer is, or none.
    std::unique_ptr<FrozenGuest> frozen(new FrozenGuest(socket, options, random));
    auto count = agent.freeze();
    { const GuestAgent gone = std::move(agent); }  // its end of the channel is free for the thaw
    if (!count.ok()) {
        frozen->frozen_ = count.error().code != ErrorCode::Unsupported;
        return count.error();  // and what stands still goes on
    }
    log_info("driver", "the guest's file systems stand still", {{"count", *count}});
    return frozen;
}

Result<int64_t> FrozenGuest::thaw() {
    auto agent = TRY(GuestAgent::connect(socket_, options_, random_));
    return agent.thaw();
}

void FrozenGuest::end() {
    if (!frozen_) {
        return;
    }
    frozen_ = false;
    Result<int64_t> thawed = thaw();
    for (int attempt = 1; attempt < kThawAttempts && !thawed.ok(); ++attempt) {
        thawed = thaw();
    }
    if (!thawed.ok()) {
        log_error("driver", "the guest's file systems stand still and could not be told to go on",
                  {{"socket", socket_}, {"why", thawed.error().text()}});
    }
}

}  // namespace kumoi::compute
