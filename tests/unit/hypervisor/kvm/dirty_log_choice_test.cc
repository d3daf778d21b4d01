#include <gtest/gtest.h>

#include "hypervisor/kvm/kvm_dirty_log.h"

namespace kumoi::hypervisor {
namespace {

using Kind = KvmDirtyLog::Kind;
constexpr uint64_t kGiB = 1ull << 30;

const KvmDirtyLog::Offer kFull{
    .ring_entries = 65536, .ring_in_order = true, .manual = true, .by_hardware = true};
const KvmDirtyLog::Machine kMachine{.vcpus = 4, .memory = 8 * kGiB};

Kind automatic(const KvmDirtyLog::Offer& offer, const KvmDirtyLog::Machine& machine = kMachine) {
    return KvmDirtyLog::choose(offer, DirtyTracking::Auto, machine).value();
}

TEST(DirtyLogChoice, TheRingWhereItIsWorthItAndCannotRunOver) {
    EXPECT_EQ(automatic(kFull), Kind::Ring);
    EXPECT_EQ(automatic(kFull, {.vcpus = 1, .memory = kGiB}), Kind::Manual);
    EXPECT_EQ(automatic(kFull, {.vcpus = 4, .memory = 65 * kGiB}), Kind::Manual);
    auto offer = kFull;
    offer.by_hardware = false;
    EXPECT_EQ(automatic(offer), Kind::Manual);
    offer = kFull;
    offer.ring_in_order = false;
    EXPECT_EQ(automatic(offer), Kind::Manual);
    offer = kFull;
    offer.ring_entries = KvmDirtyLog::kRingEntries - 1;
    EXPECT_EQ(automatic(offer), Kind::Manual);
    offer.manual = false;
    EXPECT_EQ(automatic(offer), Kind::Plain);
}

TEST(DirtyLogChoice, WhoAsksForOneGetsItOrARefusal) {
    const KvmDirtyLog::Machine small{.vcpus = 1, .memory = kGiB};
    EXPECT_EQ(KvmDirtyLog::choose(kFull, DirtyTracking::Bitmap, kMachine).value(), Kind::Manual);
    EXPECT_EQ(KvmDirtyLog::choose(kFull, DirtyTracking::Ring, small).value(), Kind::Ring);
    EXPECT_FALSE(KvmDirtyLog::choose({.manual = true}, DirtyTracking::Ring, kMachine).ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
