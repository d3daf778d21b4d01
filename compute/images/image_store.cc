#include "compute/images/image_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/log.h"
#include "base/uuid.h"
#include "compute/images/image_inspector.h"

namespace kumoi::compute {
namespace {

constexpr const char* kSchema[] = {
    "CREATE TABLE images(id TEXT PRIMARY KEY, body TEXT) WITHOUT ROWID;"
    "CREATE TABLE image_members(image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, "
    "member_id TEXT NOT NULL, status TEXT NOT NULL, created_ns INTEGER NOT NULL, "
    "updated_ns INTEGER NOT NULL, PRIMARY KEY(image_id, member_id)) WITHOUT ROWID;"};

constexpr size_t kMembersMax = 128;

Error image_not_found(const std::string& id) {
    return Error::not_found("No image found with ID {}", id).with_fault("ImageNotFound");
}

Error member_not_found(const std::string& id, const std::string& member_id) {
    return Error::not_found("{} not found in the member list of the image {}.", member_id, id);
}

// A full disk is the operator's limit, not a failure of ours: Glance answers 413.
Error storage_error(Error error) {
    if (error.code == ErrorCode::Exhausted) {
        return std::move(error).with_fault("ImageStorageFull");
    }
    return error;
}

}  // namespace

Result<std::unique_ptr<ImageStore>> ImageStore::create(ImageStoreOptions options,
                                                       Database& database, const Clock& clock,
                                                       Random& random) {
    std::unique_ptr<ImageStore> store(new ImageStore(std::move(options), database, clock, random));
    TRY(make_directories(store->incoming_path(), 0700));
    TRY(database.migrate("images", {std::begin(kSchema), std::end(kSchema)}));
    TRY(store->load());
    TRY(store->reconcile());
    return store;
}

ImageStore::ImageStore(ImageStoreOptions options, Database& database, const Clock& clock,
                       Random& random)
    : options_(std::move(options)), database_(database), clock_(clock), random_(random) {}

Result<void> ImageStore::load() {
    const std::lock_guard lock(mutex_);
    const auto rows = TRY(database_.read([](SqlSession& sql) {
        return sql.query("SELECT id, body FROM images WHERE body IS NOT NULL");
    }));
    for (const SqlRow& row : rows) {
        const Json body = TRY_CONTEXT(Json::parse(row.text(1)), "image {}", row.text(0));
        images_[row.text(0)] = TRY_CONTEXT(image_from_json(body), "image {}", row.text(0));
    }
    const auto member_rows = TRY(database_.read([](SqlSession& sql) {
        return sql.query(
            "SELECT image_id, member_id, status, created_ns, updated_ns FROM image_members");
    }));
    for (const SqlRow& row : member_rows) {
        members_[{row.text(0), row.text(1)}] = {row.text(0), row.text(1), row.text(2),
                                                row.integer(3), row.integer(4)};
    }
    return {};
}

// No upload survives a restart, and only active and deactivated images have data.
Result<void> ImageStore::reconcile() {
    const std::lock_guard lock(mutex_);
    for (const std::string& name : TRY(list_directory(incoming_path()))) {
        TRY(remove_file(incoming_path() + "/" + name));
    }
    for (auto& [id, image] : images_) {
        TRY(reconcile_record(image));
    }
    return remove_strays();
}

Result<void> ImageStore::reconcile_record(Image& image) {
    if (image.status == "saving") {
        log_warn("images", "an upload was cut short by a restart", {{"image", image.id}});
        image.status = "queued";
        return save(image);
    }
    if (image.status != "active" && image.status != "deactivated") {
        return {};
    }
    const auto size = file_size(data_path(image.id));
    if (size.ok() && size.value() == image.size) {
        return {};
    }
    log_error("images", "the data of an image is gone or has another size",
              {{"image", image.id}, {"expected", image.size.value_or(0)}});
    image.status = "killed";
    return save(image);
}

// Files named like images that no record needs: a crash after rename, or in the middle of a delete.
Result<void> ImageStore::remove_strays() {
    for (const std::string& name : TRY(list_directory(options_.directory))) {
        if (!Uuid::parse(name)) {
            continue;
        }
        const auto found = images_.find(name);
        const bool needed = found != images_.end() && (found->second.status == "active" ||
                                                       found->second.status == "deactivated" ||
                                                       found->second.status == "killed");
        if (!needed) {
            log_warn("images", "removed data that belongs to no image", {{"file", name}});
            TRY(remove_file(data_path(name)));
        }
    }
    return {};
}

Result<void> ImageStore::save(const Image& image) {
    return database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("UPDATE images SET body = ? WHERE id = ?", image_to_json(image).dump(),
                    image.id));
        return {};
    });
}

Result<Image> ImageStore::add(Image image) {
    const std::lock_guard lock(mutex_);
    if (image.id.empty()) {
        image.id = Uuid::generate(random_).text();
    }
    image.created_ns = clock_.wall_ns();
    image.updated_ns = image.created_ns;
    const auto stored = database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("INSERT INTO images(id, body) VALUES(?, ?)", image.id,
                    image_to_json(image).dump()));
        return {};
    });
    if (!stored.ok()) {
        // The row of a deleted image stays, without body, so an id never names two images.
        return stored.error().code == ErrorCode::Conflict
                   ? Error::conflict("Image ID {} already exists!", image.id)
                   : stored.error();
    }
    images_[image.id] = image;
    return image;
}

Result<Image> ImageStore::get(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    const auto found = images_.find(id);
    if (found == images_.end()) {
        return image_not_found(id);
    }
    return found->second;
}

std::vector<Image> ImageStore::list() const {
    const std::lock_guard lock(mutex_);
    std::vector<Image> images;
    images.reserve(images_.size());
    for (const auto& [id, image] : images_) {
        images.push_back(image);
    }
    return images;
}

Result<Image> ImageStore::change(const std::string& id, const Change& change) {
    const std::lock_guard lock(mutex_);
    const auto found = images_.find(id);
    if (found == images_.end()) {
        return image_not_found(id);
    }
    Image changed = found->second;
    TRY(change(changed));
    changed.updated_ns = clock_.wall_ns();
    TRY(save(changed));
    found->second = changed;
    return changed;
}

Result<void> ImageStore::remove(const std::string& id) {
    const std::lock_guard lock(mutex_);
    const auto found = images_.find(id);
    if (found == images_.end()) {
        return image_not_found(id);
    }
    if (found->second.is_protected) {
        return Error::forbidden("Image {} is protected and cannot be deleted.", id)
            .with_hint("clear it with: openstack image set --unprotected " + id);
    }
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM image_members WHERE image_id = ?", id));
        TRY(sql.run("UPDATE images SET body = NULL WHERE id = ?", id));
        return {};
    }));
    images_.erase(found);
    uploads_.erase(id);  // an upload that runs finds at commit that it lost its image
    std::erase_if(members_, [&](const auto& entry) { return entry.first.first == id; });
    // The record is gone for good; data that can't be removed now is removed at the next start.
    if (const auto removed = remove_file(data_path(id)); !removed.ok()) {
        log_error("images", "the data of a deleted image stays for now",
                  {{"image", id}, {"reason", removed.error().text()}});
    }
    return {};
}

Result<ImageUpload> ImageStore::begin_upload(const std::string& id) {
    const std::lock_guard lock(mutex_);
    const auto found = images_.find(id);
    if (found == images_.end()) {
        return image_not_found(id);
    }
    Image saving = found->second;
    if (saving.status != "queued") {
        return Error::conflict("Image status transition from {} to saving is not allowed",
                               saving.status)
            .with_hint("data of an image never changes: create a new image");
    }
    const std::string path = fmt::format("{}/{}.{}", incoming_path(), id, ++upload_count_);
    UniqueFd fd = TRY(open_file(path, O_RDWR | O_CREAT | O_EXCL, 0600));
    saving.status = "saving";
    const auto saved = save(saving);
    if (!saved.ok()) {
        ::unlink(path.c_str());
        return saved.error();
    }
    found->second = saving;
    uploads_[id] = path;
    return ImageUpload(*this, id, path, std::move(fd));
}

Result<Image> ImageStore::commit_upload(ImageUpload& upload) {
    Image sealed;
    TRY(finish_upload(upload, sealed));  // slow: reads, syncs; not under the mutex
    const std::lock_guard lock(mutex_);
    const auto owner = uploads_.find(upload.image_id_);
    const auto found = images_.find(upload.image_id_);
    if (found == images_.end() || owner == uploads_.end() || owner->second != upload.path_) {
        return Error::not_found("Image {} was deleted while its data was uploaded",
                                upload.image_id_)
            .with_fault("Gone");
    }
    const std::string path = data_path(upload.image_id_);
    if (::rename(upload.path_.c_str(), path.c_str()) != 0) {
        return Error::from_errno(errno, "Moving an image into place");
    }
    if (options_.sync) {
        TRY(sync_directory(options_.directory));
    }
    Image active = found->second;
    active.status = "active";
    active.size = sealed.size;
    active.virtual_size = sealed.virtual_size;
    active.checksum = sealed.checksum;
    active.os_hash_algo = "sha512";
    active.os_hash_value = sealed.os_hash_value;
    active.updated_ns = clock_.wall_ns();
    if (const auto saved = save(active); !saved.ok()) {
        ::unlink(path.c_str());
        return saved.error();
    }
    found->second = active;
    uploads_.erase(owner);
    return active;
}

Result<void> ImageStore::finish_upload(ImageUpload& upload, Image& sealed) {
    const Image image = TRY(get(upload.image_id_));
    std::vector<std::byte> head(kInspectBytes);
    head.resize(TRY(pread_some(upload.fd_.get(), head, 0)));
    const ImageInspection seen =
        TRY(inspect_image(image.disk_format.value_or("raw"), head, upload.size_));
    if (options_.sync && ::fsync(upload.fd_.get()) != 0) {
        return storage_error(Error::from_errno(errno, "Writing an image to disk"));
    }
    sealed.size = upload.size_;
    sealed.virtual_size = seen.virtual_size;
    sealed.checksum = upload.md5_.finish_hex();
    sealed.os_hash_value = upload.sha512_.finish_hex();
    return {};
}

void ImageStore::abort_upload(const ImageUpload& upload) {
    ::unlink(upload.path_.c_str());
    const std::lock_guard lock(mutex_);
    const auto owner = uploads_.find(upload.image_id_);
    const auto found = images_.find(upload.image_id_);
    if (owner == uploads_.end() || owner->second != upload.path_ || found == images_.end()) {
        return;  // deleted meanwhile
    }
    uploads_.erase(owner);
    found->second.status = "queued";
    if (const auto saved = save(found->second); !saved.ok()) {
        log_error("images", "an image stays 'saving' in the database until the next start",
                  {{"image", upload.image_id_}, {"reason", saved.error().text()}});
    }
}

Result<ImageData> ImageStore::open_data(const std::string& id) const {
    const Image image = TRY(get(id));
    if (image.status != "active" && image.status != "deactivated") {
        return Error::conflict("Image {} has no data: its status is {}", id, image.status);
    }
    UniqueFd fd = TRY_CONTEXT(open_file(data_path(id), O_RDONLY), "image {}", id);
    return ImageData{std::move(fd), image.size.value_or(0)};
}

std::vector<ImageMember> ImageStore::members(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    std::vector<ImageMember> found;
    for (auto entry = members_.lower_bound({id, ""});
         entry != members_.end() && entry->first.first == id; ++entry) {
        found.push_back(entry->second);
    }
    return found;
}

std::optional<ImageMember> ImageStore::member(const std::string& id,
                                              const std::string& member_id) const {
    const std::lock_guard lock(mutex_);
    const auto found = members_.find({id, member_id});
    return found == members_.end() ? std::nullopt : std::optional(found->second);
}

Result<void> ImageStore::save_member(const ImageMember& member) {
    return database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(
            sql.run("INSERT INTO image_members(image_id, member_id, status, created_ns, updated_ns)"
                    " VALUES(?, ?, ?, ?, ?) ON CONFLICT(image_id, member_id) DO UPDATE SET"
                    " status = excluded.status, updated_ns = excluded.updated_ns",
                    member.image_id, member.member_id, member.status, member.created_ns,
                    member.updated_ns));
        return {};
    });
}

Result<ImageMember> ImageStore::add_member(const std::string& id, const std::string& member_id) {
    const size_t count = members(id).size();
    const std::lock_guard lock(mutex_);
    if (images_.find(id) == images_.end()) {
        return image_not_found(id);
    }
    if (members_.contains({id, member_id})) {
        return Error::conflict("The project {} is already a member of image {}", member_id, id);
    }
    if (count >= kMembersMax) {
        return Error::too_large("Image {} has {} members, the most there may be", id, count);
    }
    ImageMember member{id, member_id, "pending", clock_.wall_ns(), clock_.wall_ns()};
    TRY(save_member(member));
    members_[{id, member_id}] = member;
    return member;
}

Result<ImageMember> ImageStore::set_member_status(const std::string& id,
                                                  const std::string& member_id,
                                                  const std::string& status) {
    const std::lock_guard lock(mutex_);
    const auto found = members_.find({id, member_id});
    if (found == members_.end()) {
        return member_not_found(id, member_id);
    }
    ImageMember changed = found->second;
    changed.status = status;
    changed.updated_ns = clock_.wall_ns();
    TRY(save_member(changed));
    found->second = changed;
    return changed;
}

Result<void> ImageStore::remove_member(const std::string& id, const std::string& member_id) {
    const std::lock_guard lock(mutex_);
    if (members_.find({id, member_id}) == members_.end()) {
        return member_not_found(id, member_id);
    }
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM image_members WHERE image_id = ? AND member_id = ?", id,
                    member_id));
        return {};
    }));
    members_.erase({id, member_id});
    return {};
}

bool image_visible_to(const ImageStore& store, const Image& image, const std::string& project_id,
                      bool is_admin) {
    if (is_admin || image.visibility == "public" || image.visibility == "community") {
        return true;
    }
    if (project_id.empty()) {
        return false;
    }
    return image.owner == project_id ||
           (image.visibility == "shared" && store.member(image.id, project_id).has_value());
}

ImageUpload::ImageUpload(ImageStore& store, std::string image_id, std::string path, UniqueFd fd)
    : store_(&store), image_id_(std::move(image_id)), path_(std::move(path)), fd_(std::move(fd)) {}

ImageUpload::ImageUpload(ImageUpload&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)),
      image_id_(std::move(other.image_id_)),
      path_(std::move(other.path_)),
      fd_(std::move(other.fd_)),
      size_(other.size_),
      md5_(std::move(other.md5_)),
      sha512_(std::move(other.sha512_)) {}

ImageUpload::~ImageUpload() {
    if (store_ != nullptr) {
        store_->abort_upload(*this);
    }
}

Result<void> ImageUpload::write(std::span<const std::byte> bytes) {
    KUMOI_ASSERT(store_ != nullptr);
    const uint64_t size_max = store_->options().size_max;
    if (bytes.size() > size_max - size_) {
        return Error::too_large("The image is larger than {} bytes, the limit of this service",
                                size_max);
    }
    auto written = pwrite_all(fd_.get(), bytes, size_);
    if (!written.ok()) {
        return storage_error(std::move(written).error());
    }
    size_ += bytes.size();
    md5_.update(bytes);
    sha512_.update(bytes);
    return {};
}

Result<Image> ImageUpload::commit() {
    KUMOI_ASSERT(store_ != nullptr);
    Image image = TRY(store_->commit_upload(*this));
    store_ = nullptr;
    return image;
}

}  // namespace kumoi::compute
