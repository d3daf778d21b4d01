#include <gtest/gtest.h>

#include "hypervisor/memory/free_page_hints.h"

namespace kumoi::hypervisor {
namespace {

TEST(FreePages, RangesAcrossWordsAndTheEnd) {
    FreePages pages(200);
    pages.mark(60, 10);
    pages.mark(128, 64);
    pages.mark(190, UINT64_MAX);
    pages.mark(500, 3);
    pages.mark(5, 0);
    for (uint64_t page = 0; page < 200; ++page) {
        const bool free = (page >= 60 && page < 70) || page >= 128;
        EXPECT_EQ(pages.test(page), free) << page;
    }
}

}  // namespace
}  // namespace kumoi::hypervisor
