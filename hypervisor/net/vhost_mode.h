// VhostMode: whether the kernel's vhost-net carries a card's frames. On: or the guest is refused.
// Auto: where there is /dev/vhost-net and it can do what the guest's driver agreed to.
#pragma once

#include <cstdint>

namespace kumoi::hypervisor {

enum class VhostMode : uint8_t { Off, Auto, On };

}  // namespace kumoi::hypervisor
