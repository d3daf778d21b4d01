#include "compute/images/store_image_api.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"

namespace kumoi::compute {
namespace {

class StoreImageApiTest : public testing::Test {
protected:
    StoreImageApiTest() {
        store_ = ImageStore::create({.directory = directory_.path() + "/images", .sync = false},
                                    *database_, clock_, random_)
                     .value();
        api_ = std::make_unique<StoreImageApi>(*store_);
    }
    ImageMeta queued(const Properties& properties = {}) {
        ImageMeta meta;
        meta.name = "snap";
        meta.disk_format = "raw";
        meta.container_format = "bare";
        meta.properties = properties;
        return api_->create(alice_, meta).value();
    }
    // Gives the bytes in pieces of 3.
    static ImageApi::Source source_of(std::string text) {
        return [text](std::span<std::byte> buffer, uint64_t offset) -> Result<size_t> {
            const auto bytes = std::as_bytes(std::span(text)).subspan(offset);
            const size_t count = std::min<size_t>({buffer.size(), bytes.size(), 3});
            std::copy_n(bytes.begin(), count, buffer.begin());
            return count;
        };
    }
    static ImageMeta raw() {
        ImageMeta meta;
        meta.disk_format = "raw";
        meta.container_format = "bare";
        meta.min_disk_gb = 2;
        meta.properties = {{"image_state", "available"}};
        return meta;
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("image-api").value();
    std::unique_ptr<Database> database_ = Database::open(":memory:").value();
    ManualClock clock_;
    SeededRandom random_{3};
    std::unique_ptr<ImageStore> store_;
    std::unique_ptr<StoreImageApi> api_;
    const RequestContext alice_{"req-1", "alice", "p1", false};
    const RequestContext bob_{"req-2", "bob", "p2", false};
};

TEST_F(StoreImageApiTest, AnUploadThatBreaksOffLeavesTheImageQueued) {
    const std::string id = queued().id;
    const auto broken = api_->upload(
        alice_, id, raw(), [](std::span<std::byte>, uint64_t offset) -> Result<size_t> {
            return offset < 10 ? Result<size_t>(size_t{10}) : Error::io("the disk broke");
        });
    ASSERT_FALSE(broken.ok());
    EXPECT_EQ(api_->show(alice_, id)->status, "queued");
    ASSERT_TRUE(api_->upload(alice_, id, raw(), source_of("again")).ok());
    EXPECT_EQ(api_->show(alice_, id)->status, "active");
}

TEST_F(StoreImageApiTest, AnUploadGivesFormatMinimaAndProperties) {
    const std::string id = queued({{"image_type", "snapshot"}}).id;
    ASSERT_TRUE(api_->upload(alice_, id, raw(), source_of("data of a disk")).ok());
    const ImageMeta image = api_->show(alice_, id).value();
    EXPECT_EQ(image.size, 14u);
    EXPECT_EQ(image.min_disk_gb, 2);
    EXPECT_EQ(image.properties.at("image_type"), "snapshot");
    EXPECT_EQ(image.properties.at("image_state"), "available");
    // Again, after a crash that came before its end was recorded: what is there stays.
    ASSERT_TRUE(api_->upload(alice_, id, raw(), source_of("other")).ok());
    EXPECT_EQ(api_->show(alice_, id)->size, 14u);
}

TEST_F(StoreImageApiTest, OtherProjectsSeeAndRemoveNothing) {
    const std::string id = queued().id;
    EXPECT_FALSE(api_->show(bob_, id).ok());
    EXPECT_TRUE(api_->remove(bob_, id).ok());  // for them it does not exist
    EXPECT_TRUE(api_->show(alice_, id).ok());
    EXPECT_FALSE(api_->upload(bob_, id, raw(), source_of("x")).ok());
    EXPECT_TRUE(api_->list(bob_, {})->empty());
    EXPECT_TRUE(api_->remove(alice_, id).ok());
    EXPECT_TRUE(api_->remove(alice_, id).ok());
    EXPECT_FALSE(api_->show(alice_, id).ok());
}

TEST_F(StoreImageApiTest, ListsByPropertiesNewestFirst) {
    const std::string first = queued({{"backup_type", "daily"}}).id;
    clock_.advance(kNanosPerSecond);
    const std::string second = queued({{"backup_type", "daily"}, {"more", "x"}}).id;
    queued({{"backup_type", "weekly"}});
    const auto found = api_->list(alice_, {{"backup_type", "daily"}}).value();
    ASSERT_EQ(found.size(), 2u);
    EXPECT_EQ(found[0].id, second);
    EXPECT_EQ(found[1].id, first);
}

}  // namespace
}  // namespace kumoi::compute
