// What each vCPU may write when all of them together write too much for the link: those above a
// level are held at it, those below lose nothing, and the level is as high as it can be.
// Pure; for machines that know who writes (a dirty ring a vCPU).
#pragma once

#include <cstdint>
#include <span>

namespace kumoi::migration {

constexpr uint64_t kDirtyLimitMin = 1u << 20;  // bytes a second: a guest shall still get on

// The level L, bytes a second, with sum(min(rate, L)) = total; `total` itself where the rates are
// below that already. At least kDirtyLimitMin.
uint64_t dirty_limit(std::span<const uint64_t> rates, uint64_t total);

// What all may write together at that step of slowing down (Convergence::Advice::throttle).
uint64_t dirty_allowance(unsigned throttle_percent, uint64_t bandwidth);

}  // namespace kumoi::migration
