// One text with descriptors beside it, over a unix SOCK_SEQPACKET socket. Blocks; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::link {

constexpr size_t kMessageTextMax = 64u << 10;
constexpr size_t kMessageDescriptorsMax = 64;

struct DescriptorMessage {
    std::string text;  // empty: the peer has gone
    std::vector<UniqueFd> descriptors;
};

Result<void> send_message(int socket, std::string_view text, std::span<const int> descriptors = {});
Result<DescriptorMessage> receive_message(int socket);

}  // namespace kumoi::link
