#include "compute/images/image_store.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "compute/images/store_image_api.h"

namespace kumoi::compute {
namespace {

class ImageStoreTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto made = TemporaryDirectory::create("images-test");
        ASSERT_TRUE(made.ok());
        directory_.emplace(std::move(made).value());
        auto opened = Database::open(directory_->path() + "/kumoi.sqlite");
        ASSERT_TRUE(opened.ok()) << opened.error().text();
        database_ = std::move(opened).value();
        reopen();
    }
    void reopen() {
        store_.reset();
        auto made = ImageStore::create(
            {.directory = directory_->path() + "/images", .size_max = 1000, .sync = false},
            *database_, clock_, random_);
        ASSERT_TRUE(made.ok()) << made.error().text();
        store_ = std::move(made).value();
    }
    std::string path(const std::string& name) const {
        return directory_->path() + "/images/" + name;
    }
    std::string add(const std::string& format = "raw") {
        Image image;
        image.name = "cirros";
        image.owner = "p1";
        image.disk_format = format;
        image.container_format = "bare";
        image.tags = {"b", "a"};
        image.properties = {{"hw_disk_bus", "virtio"}};
        return store_->add(image)->id;
    }
    Result<Image> put(const std::string& id, std::string_view data) {
        ImageUpload upload = TRY(store_->begin_upload(id));
        TRY(upload.write(std::as_bytes(std::span(data))));
        return upload.commit();
    }
    size_t incoming() const { return list_directory(path("incoming"))->size(); }

    std::optional<TemporaryDirectory> directory_;
    std::unique_ptr<Database> database_;
    ManualClock clock_;
    SeededRandom random_{7};
    std::unique_ptr<ImageStore> store_;
};

TEST_F(ImageStoreTest, ReturnsToQueuedAndLeavesNoFileWhenAnUploadIsCut) {
    const std::string id = add();
    {
        auto upload = store_->begin_upload(id);
        ASSERT_TRUE(upload.ok());
        EXPECT_EQ(store_->get(id)->status, "saving");
        EXPECT_TRUE(upload->write(std::as_bytes(std::span("abc", 3))).ok());
        EXPECT_EQ(incoming(), 1u);
    }
    EXPECT_EQ(store_->get(id)->status, "queued");
    EXPECT_EQ(incoming(), 0u);
    EXPECT_FALSE(path_exists(path(id)));
    EXPECT_TRUE(put(id, "again").ok());
}

TEST_F(ImageStoreTest, RefusesASecondUploadAndNewDataForAnActiveImage) {
    const std::string id = add();
    auto first = store_->begin_upload(id);
    ASSERT_TRUE(first.ok());
    EXPECT_EQ(store_->begin_upload(id).error().code, ErrorCode::Conflict);
    ASSERT_TRUE(first->commit().ok());
    EXPECT_EQ(store_->begin_upload(id).error().code, ErrorCode::Conflict);
    EXPECT_EQ(store_->begin_upload("nope").error().code, ErrorCode::NotFound);
}

TEST_F(ImageStoreTest, LimitsTheSize) {
    const std::string id = add();
    EXPECT_EQ(put(id, std::string(1001, 'x')).error().code, ErrorCode::TooLarge);
    EXPECT_EQ(store_->get(id)->status, "queued");
    EXPECT_TRUE(put(id, std::string(1000, 'x')).ok());
}

TEST_F(ImageStoreTest, RefusesDataThatIsNotItsFormat) {
    EXPECT_EQ(put(add("qcow2"), "not qcow2").error().code, ErrorCode::InvalidArgument);
    EXPECT_EQ(put(add("raw"), std::string("QFI\xfb") + std::string(100, '\0')).error().code,
              ErrorCode::InvalidArgument);
}

TEST_F(ImageStoreTest, GivesUpAnUploadWhoseImageWasDeleted) {
    const std::string id = add();
    {
        auto upload = store_->begin_upload(id);
        ASSERT_TRUE(store_->remove(id).ok());
        EXPECT_EQ(upload->commit().error().code, ErrorCode::NotFound);
    }
    EXPECT_FALSE(path_exists(path(id)));
    EXPECT_FALSE(store_->get(id).ok());
    reopen();
    EXPECT_EQ(incoming(), 0u);
}

TEST_F(ImageStoreTest, HashesWhatItStores) {
    const std::string id = add();
    const auto active = put(id, "hello");
    ASSERT_TRUE(active.ok()) << active.error().text();
    EXPECT_EQ(active->status, "active");
    EXPECT_EQ(active->size, 5u);
    EXPECT_EQ(active->virtual_size, 5u);
    EXPECT_EQ(active->checksum, "5d41402abc4b2a76b9719d911017c592");
    EXPECT_EQ(active->os_hash_algo, "sha512");
    EXPECT_EQ(active->os_hash_value, digest_hex(DigestKind::Sha512, "hello"));
    EXPECT_EQ(read_file(path(id)).value(), "hello");
    EXPECT_EQ(store_->open_data(id)->size, 5u);
}

TEST_F(ImageStoreTest, SurvivesARestart) {
    const std::string id = add();
    ASSERT_TRUE(put(id, "hello").ok());
    ASSERT_TRUE(store_->add_member(id, "p2").ok());
    const Image before = store_->get(id).value();
    reopen();
    EXPECT_EQ(image_to_json(store_->get(id).value()), image_to_json(before));
    EXPECT_EQ(store_->members(id).size(), 1u);
}

TEST_F(ImageStoreTest, RepairsWhatACrashLeft) {
    const std::string saving = add();
    const std::string active = add();
    const std::string lost = add();
    ASSERT_TRUE(put(active, "hello").ok());
    ASSERT_TRUE(put(lost, "hello").ok());
    {
        auto upload = store_->begin_upload(saving);
        ASSERT_TRUE(upload.ok());
        // The daemon dies here: record 'saving', a partial file, and (after the rename) a whole
        // one.
        ASSERT_TRUE(write_file_atomic(path("incoming/" + saving + ".9"), "part").ok());
        ASSERT_TRUE(write_file_atomic(path(saving), "whole").ok());
        ASSERT_TRUE(write_file_atomic(path("00000000-0000-4000-8000-000000000001"), "x").ok());
        ASSERT_TRUE(write_file_atomic(path("operators-own-note"), "x").ok());
        ASSERT_TRUE(write_file_atomic(path(lost), "shorter").ok());
        auto second = ImageStore::create({.directory = directory_->path() + "/images"}, *database_,
                                         clock_, random_);
        ASSERT_TRUE(second.ok()) << second.error().text();
        EXPECT_EQ(second.value()->get(saving)->status, "queued");
        EXPECT_EQ(second.value()->get(active)->status, "active");
        EXPECT_EQ(second.value()->get(lost)->status, "killed");
    }
    EXPECT_EQ(incoming(), 0u);
    EXPECT_FALSE(path_exists(path(saving)));
    EXPECT_FALSE(path_exists(path("00000000-0000-4000-8000-000000000001")));
    EXPECT_TRUE(path_exists(path("operators-own-note")));
}

TEST_F(ImageStoreTest, NeverReusesAnId) {
    const std::string id = add();
    Image again;
    again.id = id;
    EXPECT_EQ(store_->add(again).error().code, ErrorCode::Conflict);
    ASSERT_TRUE(store_->remove(id).ok());
    EXPECT_EQ(store_->add(again).error().code, ErrorCode::Conflict);
    reopen();
    EXPECT_EQ(store_->add(again).error().code, ErrorCode::Conflict);
    EXPECT_TRUE(store_->list().empty());
}

TEST_F(ImageStoreTest, ProtectsAndRemoves) {
    const std::string id = add();
    ASSERT_TRUE(put(id, "hello").ok());
    ASSERT_TRUE(store_
                    ->change(id,
                             [](Image& image) -> Result<void> {
                                 image.is_protected = true;
                                 return {};
                             })
                    .ok());
    EXPECT_EQ(store_->remove(id).error().code, ErrorCode::Forbidden);
    ASSERT_TRUE(store_
                    ->change(id,
                             [](Image& image) -> Result<void> {
                                 image.is_protected = false;
                                 return {};
                             })
                    .ok());
    EXPECT_TRUE(store_->remove(id).ok());
    EXPECT_FALSE(path_exists(path(id)));
    EXPECT_EQ(store_->remove(id).error().code, ErrorCode::NotFound);
}

TEST_F(ImageStoreTest, AFailedChangeChangesNothing) {
    const std::string id = add();
    EXPECT_FALSE(store_
                     ->change(id,
                              [](Image& image) -> Result<void> {
                                  image.name = "other";
                                  return Error::invalid("no");
                              })
                     .ok());
    EXPECT_EQ(store_->get(id)->name, "cirros");
}

TEST_F(ImageStoreTest, SharesOnlyWithMembers) {
    const std::string id = add();
    const auto visible = [&](const std::string& project) {
        return image_visible_to(*store_, store_->get(id).value(), project, false);
    };
    EXPECT_TRUE(visible("p1"));
    EXPECT_FALSE(visible("p2"));
    EXPECT_FALSE(visible(""));
    ASSERT_TRUE(store_->add_member(id, "p2").ok());
    EXPECT_EQ(store_->add_member(id, "p2").error().code, ErrorCode::Conflict);
    EXPECT_TRUE(visible("p2"));
    EXPECT_EQ(store_->set_member_status(id, "p2", "accepted")->status, "accepted");
    EXPECT_EQ(store_->set_member_status(id, "p3", "accepted").error().code, ErrorCode::NotFound);
    ASSERT_TRUE(store_->remove_member(id, "p2").ok());
    EXPECT_FALSE(visible("p2"));
}

TEST_F(ImageStoreTest, NodesSeeWhatTheirCallerMaySee) {
    const std::string id = add();
    StoreImageApi api(*store_);
    const auto nothing = [](std::span<const std::byte>) -> Result<void> { return {}; };
    const RequestContext owner{"req-1", "u1", "p1", false};
    const RequestContext other{"req-1", "u2", "p2", false};
    EXPECT_EQ(api.show(other, id).error().code, ErrorCode::NotFound);
    EXPECT_EQ(api.download(other, id, nothing).error().code, ErrorCode::NotFound);
    EXPECT_EQ(api.download(owner, id, nothing).error().fault, "ImageNotActive");
    ASSERT_TRUE(put(id, "hello").ok());
    std::string got;
    ASSERT_TRUE(api.download(owner, id,
                             [&](std::span<const std::byte> bytes) -> Result<void> {
                                 got.append(reinterpret_cast<const char*>(bytes.data()),
                                            bytes.size());
                                 return {};
                             })
                    .ok());
    EXPECT_EQ(got, "hello");
    EXPECT_EQ(api.show(owner, id)->checksum, store_->get(id)->checksum);
    EXPECT_EQ(api.show(owner, id)->properties.at("hw_disk_bus"), "virtio");
    EXPECT_EQ(
        api.download(owner, id,
                     [](std::span<const std::byte>) -> Result<void> { return Error::io("full"); })
            .error()
            .message,
        "full");
}

}  // namespace
}  // namespace kumoi::compute
