#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace kumoi {
namespace {

Result<int> half(int value) {
    if (value % 2 != 0) {
        return Error::invalid("{} is odd", value).with_hint("Give an even number.");
    }
    return value / 2;
}

Result<int> quarter(int value) {
    return TRY(half(TRY_CONTEXT(half(value), "first half")));
}

Result<void> check(int value) {
    TRY(quarter(value));
    return {};
}

TEST(Result, TryReturnsTheValueOrTheCallersError) {
    EXPECT_EQ(*quarter(12), 3);
    EXPECT_EQ(quarter(6).error().message, "3 is odd");
    EXPECT_FALSE(check(5).ok());
    EXPECT_TRUE(check(4).ok());
}

TEST(Result, ContextGoesInFrontAndKeepsCodeAndHint) {
    const auto result = quarter(7);
    EXPECT_EQ(result.error().message, "first half: 7 is odd");
    EXPECT_EQ(result.error().code, ErrorCode::InvalidArgument);
    EXPECT_EQ(result.error().text(), "first half: 7 is odd. Give an even number.");
}

TEST(Result, HoldsMoveOnlyValues) {
    Result<std::unique_ptr<int>> result(std::make_unique<int>(5));
    const std::unique_ptr<int> taken = std::move(result).value();
    EXPECT_EQ(*taken, 5);
}

TEST(Error, ErrnoDecidesTheCode) {
    EXPECT_EQ(Error::from_errno(ENOENT, "x").code, ErrorCode::NotFound);
    EXPECT_EQ(Error::from_errno(ENOSPC, "x").code, ErrorCode::Exhausted);
    EXPECT_EQ(Error::from_errno(EACCES, "x").code, ErrorCode::Forbidden);
    EXPECT_EQ(Error::from_errno(EIO, "disk").message, "disk: Input/output error");
}

TEST(ResultDeathTest, ValueOfAnErrorIsABugOfOurs) {
    const auto failed = half(1);
    EXPECT_DEATH((void)failed.value(), "broken promise");
}

}  // namespace
}  // namespace kumoi
