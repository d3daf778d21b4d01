#include "hypervisor/channel_config.h"

#include <sys/un.h>

#include <algorithm>
#include <filesystem>

namespace kumoi::hypervisor {

namespace {

constexpr size_t kSocketPathMax = sizeof(sockaddr_un::sun_path) - 1;

// It becomes the name of a file in the guest.
bool is_name(const std::string& text) {
    constexpr std::string_view kOthers = "._-:";
    return !text.empty() && text.size() <= kChannelNameMax && text.front() != '.' &&
           std::ranges::all_of(text, [&](unsigned char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      kOthers.find(static_cast<char>(c)) != std::string_view::npos;
           });
}

Result<std::string> parse_socket(const JsonView& view, const std::string& base) {
    const std::string path = TRY(view.string("socket"));
    if (path.empty() || path.find('\0') != std::string::npos) {
        return TRY(view.at("socket")).error("expected a path");
    }
    std::string whole = path.front() == '/'
                            ? path
                            : (std::filesystem::path(base) / path).lexically_normal().string();
    if (whole.size() > kSocketPathMax) {
        return TRY(view.at("socket"))
            .error(fmt::format("the path has {} bytes; at most {} are possible", whole.size(),
                               kSocketPathMax));
    }
    return whole;
}

}  // namespace

Result<std::vector<ChannelConfig>> parse_channels(const JsonView& view,
                                                  const std::string& base_directory) {
    std::vector<ChannelConfig> channels;
    if (!view.has("channels")) {
        return channels;
    }
    for (const JsonView& item : TRY(view.array("channels"))) {
        TRY(item.only({"name", "socket"}));
        ChannelConfig channel;
        channel.name = TRY(item.string("name"));
        if (!is_name(channel.name)) {
            return TRY(item.at("name"))
                .error(fmt::format("must be 1 to {} letters, digits or ._-: and begin with no dot",
                                   kChannelNameMax));
        }
        channel.socket = TRY(parse_socket(item, base_directory));
        for (const ChannelConfig& other : channels) {
            if (other.name == channel.name || other.socket == channel.socket) {
                return item.error("another channel has this name or socket");
            }
        }
        channels.push_back(std::move(channel));
    }
    if (channels.size() > kChannelsMax) {
        return TRY(view.at("channels"))
            .error(fmt::format("{} channels are too many: at most {} fit", channels.size(),
                               kChannelsMax));
    }
    return channels;
}

}  // namespace kumoi::hypervisor
