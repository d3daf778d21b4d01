#include "compute/images/file_digest.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "base/fd.h"
#include "base/file.h"

namespace kumoi::compute {
namespace {

class FileDigestTest : public testing::Test {
protected:
    void append(FileDigest& digest, std::string_view text) {
        ASSERT_TRUE(write_all(file_.get(), std::as_bytes(std::span(text))).ok());
        digest.advance(text.size());
    }
    TemporaryDirectory directory_ = TemporaryDirectory::create("digest").value();
    UniqueFd file_ =
        std::move(open_file(directory_.path() + "/file", O_RDWR | O_CREAT, 0600)).value();
};

TEST_F(FileDigestTest, IsThatOfAllThatWasWritten) {
    std::string all;
    FileDigest digest(file_.get(), DigestKind::Sha512);
    for (int piece = 0; piece < 50; ++piece) {
        const std::string text(static_cast<size_t>(piece) * 4099, static_cast<char>('a' + piece));
        append(digest, text);
        all += text;
    }
    const auto hex = digest.finish_hex();
    ASSERT_TRUE(hex.ok()) << hex.error().text();
    EXPECT_EQ(*hex, digest_hex(DigestKind::Sha512, all));
}

TEST_F(FileDigestTest, OfNothingIsThatOfNothing) {
    FileDigest digest(file_.get(), DigestKind::Sha256);
    EXPECT_EQ(*digest.finish_hex(), digest_hex(DigestKind::Sha256, ""));
}

TEST_F(FileDigestTest, SaysWhenTheFileIsShorterThanWritten) {
    FileDigest digest(file_.get(), DigestKind::Sha256);
    digest.advance(1);
    EXPECT_FALSE(digest.finish_hex().ok());
}

TEST_F(FileDigestTest, MayBeGivenUp) {
    FileDigest digest(file_.get(), DigestKind::Sha256);
    append(digest, "half an image");
}

}  // namespace
}  // namespace kumoi::compute
