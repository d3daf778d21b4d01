// Which buffered writes a queue's thread makes itself.
#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/fd.h"
#include "hypervisor/block/cached_writes.h"

namespace kumoi::hypervisor {
namespace {

TEST(CachedWrites, SmallOnesAreMadeAtOnceLargeOnesAreNot) {
    ManualClock clock;
    const CachedWrites writes(clock);
    EXPECT_TRUE(writes.at_once(CachedWrites::kBytesMax));
    EXPECT_FALSE(writes.at_once(CachedWrites::kBytesMax + 1));
}

TEST(CachedWrites, ASlowOneGivesTheNextAwayForAWhile) {
    ManualClock clock;
    CachedWrites writes(clock);
    writes.took(CachedWrites::kSlowNs);
    EXPECT_TRUE(writes.at_once(4096));
    writes.took(CachedWrites::kSlowNs + 1);
    EXPECT_FALSE(writes.at_once(4096));
    clock.advance(CachedWrites::kPauseNs - 1);
    EXPECT_FALSE(writes.at_once(4096));
    clock.advance(1);
    EXPECT_TRUE(writes.at_once(4096));
}

TEST(CachedWrites, WritesWhatItIsGivenAndSaysWhyNot) {
    ManualClock clock;
    CachedWrites writes(clock);
    const UniqueFd file(memfd_create("cached", MFD_CLOEXEC));
    std::string first = "abc", second = "defg";
    const iovec vectors[] = {{first.data(), first.size()}, {second.data(), second.size()}};
    EXPECT_EQ(writes.write(file.get(), vectors, 10), 7);
    std::string back(7, '\0');
    EXPECT_EQ(pread(file.get(), back.data(), back.size(), 10), 7);
    EXPECT_EQ(back, "abcdefg");
    EXPECT_EQ(writes.write(-1, vectors, 0), -EBADF);
}

}  // namespace
}  // namespace kumoi::hypervisor
