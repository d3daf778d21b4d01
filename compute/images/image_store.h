// ImageStore: the image service's records and data. Records live in memory, written through to
// SQLite; data is one file an image, <directory>/<id>, that appears only complete: an upload goes
// to <directory>/incoming, is hashed while it streams, synced, renamed, and then the record turns
// active. Whatever is cut short leaves the image queued and no file behind; create() puts right
// what a crash left. Any thread; changes of records take a mutex for a database write, data never
// does.
//
//     auto upload = TRY(store.begin_upload(id));       // queued -> saving
//     TRY(upload.write(bytes)); ...
//     Image image = TRY(upload.commit());              // -> active; without it: back to queued
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/random.h"
#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/objects.h"

namespace kumoi::compute {

// Glance's own attributes and words.
struct Image {
    std::string id;
    std::optional<std::string> name;
    std::string status = "queued";      // queued, saving, active, deactivated, killed
    std::string visibility = "shared";  // public, private, shared, community
    std::string owner;                  // project
    std::optional<std::string> disk_format;
    std::optional<std::string> container_format;
    std::optional<uint64_t> size;          // bytes of the file
    std::optional<uint64_t> virtual_size;  // bytes of the disk in it
    std::string checksum;                  // md5
    std::string os_hash_algo;              // sha512
    std::string os_hash_value;
    int64_t min_disk_gb = 0;
    int64_t min_ram_mb = 0;
    bool is_protected = false;
    bool os_hidden = false;
    std::set<std::string> tags;
    Properties properties;
    int64_t created_ns = 0;
    int64_t updated_ns = 0;
};

struct ImageMember {
    std::string image_id;
    std::string member_id;           // project
    std::string status = "pending";  // pending, accepted, rejected
    int64_t created_ns = 0;
    int64_t updated_ns = 0;
};

struct ImageStoreOptions {
    std::string directory;                  // made when absent; ours alone
    uint64_t size_max = uint64_t{1} << 40;  // bytes of one image
    bool sync = true;                       // false only in tests of other things
};

struct ImageData {
    UniqueFd fd;
    uint64_t size = 0;
};

class ImageStore;

// One upload in progress; used from one thread. Destroying it without commit() undoes it.
class ImageUpload {
public:
    ImageUpload(ImageUpload&& other) noexcept;
    ImageUpload& operator=(ImageUpload&&) = delete;
    ~ImageUpload();

    // TooLarge beyond the limit; Exhausted (fault ImageStorageFull) when the disk is full.
    Result<void> write(std::span<const std::byte> bytes);
    // NotFound when the image was deleted meanwhile, InvalidArgument when the data is not what
    // disk_format says.
    Result<Image> commit();
    uint64_t size() const { return size_; }

private:
    friend class ImageStore;
    ImageUpload(ImageStore& store, std::string image_id, std::string path, UniqueFd fd);

    ImageStore* store_;
    std::string image_id_;
    std::string path_;
    UniqueFd fd_;
    uint64_t size_ = 0;
    Digest md5_{DigestKind::Md5};
    Digest sha512_{DigestKind::Sha512};
};

class ImageStore {
public:
    // Everything must outlive the store. Loads the records and reconciles them with the files.
    static Result<std::unique_ptr<ImageStore>> create(ImageStoreOptions options, Database& database,
                                                      const Clock& clock, Random& random);

    // Gives the image an id unless it has one, and its times. Conflict when the id was ever used.
    Result<Image> add(Image image);
    Result<Image> get(const std::string& id) const;  // NotFound
    std::vector<Image> list() const;                 // oldest first
    // Changes a copy, then stores it; an error of the function changes nothing.
    using Change = std::function<Result<void>(Image& image)>;
    Result<Image> change(const std::string& id, const Change& change);
    // Record, members and data. Forbidden while protected.
    Result<void> remove(const std::string& id);

    Result<ImageUpload> begin_upload(const std::string& id);   // Conflict unless queued
    Result<ImageData> open_data(const std::string& id) const;  // Conflict unless it has data

    std::vector<ImageMember> members(const std::string& id) const;
    std::optional<ImageMember> member(const std::string& id, const std::string& member_id) const;
    Result<ImageMember> add_member(const std::string& id, const std::string& member_id);
    Result<ImageMember> set_member_status(const std::string& id, const std::string& member_id,
                                          const std::string& status);
    Result<void> remove_member(const std::string& id, const std::string& member_id);

    const ImageStoreOptions& options() const { return options_; }

private:
    friend class ImageUpload;
    using MemberKey = std::pair<std::string, std::string>;  // image, project

    ImageStore(ImageStoreOptions options, Database& database, const Clock& clock, Random& random);
    Result<void> load();
    Result<void> reconcile();
    Result<void> reconcile_record(Image& image);
    Result<void> remove_strays();
    Result<void> save(const Image& image);  // call with mutex_ held
    Result<void> save_member(const ImageMember& member);
    Result<void> finish_upload(ImageUpload& upload, Image& image);
    Result<Image> commit_upload(ImageUpload& upload);
    void abort_upload(const ImageUpload& upload);
    std::string data_path(const std::string& id) const { return options_.directory + "/" + id; }
    std::string incoming_path() const { return options_.directory + "/incoming"; }

    const ImageStoreOptions options_;
    Database& database_;
    const Clock& clock_;
    Random& random_;
    mutable std::mutex mutex_;  // guards all below, and the order of database writes
    std::map<std::string, Image> images_;
    std::map<MemberKey, ImageMember> members_;
    std::map<std::string, std::string> uploads_;  // image -> path of the upload that owns "saving"
    uint64_t upload_count_ = 0;
};

// What a project may see: public and community images, its own, those shared with it, all as admin.
bool image_visible_to(const ImageStore& store, const Image& image, const std::string& project_id,
                      bool is_admin);

Json image_to_json(const Image& image);  // as stored, not as shown
Result<Image> image_from_json(const Json& json);

}  // namespace kumoi::compute
