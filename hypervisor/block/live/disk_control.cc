#include "hypervisor/block/live/disk_control.h"

#include "base/log.h"
#include "hypervisor/block/live/backup_job.h"
#include "hypervisor/block/live/commit_job.h"
#include "hypervisor/block/live/flatten_job.h"
#include "hypervisor/block/live/overlay.h"
#include "hypervisor/block/qcow2/qcow2_image.h"

namespace kumoi::hypervisor {

namespace {

constexpr int64_t kGranularityMax = int64_t{1} << 31;

Result<std::string> absolute_path(const JsonView& params, std::string_view member) {
    const std::string path = TRY(params.string(member));
    if (path.empty() || path.front() != '/') {
        return Error::invalid("params.{}: \"{}\" is not an absolute path", member, path);
    }
    return path;
}

// Whether it is the first of two words, which is also the default.
Result<bool> one_of(const JsonView& params, std::string_view member, std::string_view first,
                    std::string_view second) {
    const std::string word = TRY(params.string_or(member, first));
    if (word != first && word != second) {
        return Error::invalid("params.{}: \"{}\" is not \"{}\" or \"{}\"", member, word, first,
                              second);
    }
    return word == first;
}

}  // namespace

std::optional<Result<Json>> DiskControl::handle(const ControlRequest& request) {
    struct Method {
        std::string_view name;
        Result<Json> (DiskControl::*function)(const JsonView&);
    };
    static constexpr Method kMethods[] = {
        {"disk_backup", &DiskControl::backup},
        {"disk_snapshot", &DiskControl::snapshot},
        {"disk_commit", &DiskControl::commit},
        {"disk_flatten", &DiskControl::flatten},
        {"disk_job", &DiskControl::job},
        {"disk_job_cancel", &DiskControl::job_cancel},
        {"bitmap_add", &DiskControl::bitmap_add},
        {"bitmap_remove", &DiskControl::bitmap_remove},
        {"bitmap_clear", &DiskControl::bitmap_clear},
        {"bitmap_list", &DiskControl::bitmap_list},
    };
    for (const Method& method : kMethods) {
        if (request.method == method.name) {
            return (this->*method.function)(JsonView(request.params, "params"));
        }
    }
    return std::nullopt;
}

Result<LiveDisk*> DiskControl::disk(const std::string& id) const {
    DiskImage* image = TRY(machine_.disk(id));
    if (image->live() == nullptr) {
        return Error::unsupported("disk {} is read-only, or served by another process", id)
            .with_hint("copy the file, or ask the process that serves it");
    }
    return image->live();
}

Result<LiveDisk*> DiskControl::idle_disk(const std::string& id) const {
    LiveDisk* live = TRY(disk(id));
    if (live->job() != nullptr && live->job()->running()) {
        return Error::conflict("a {} of disk {} is under way", live->job()->kind(), id)
            .with_hint("wait for it, or cancel it with disk_job_cancel");
    }
    return live;
}

Result<Qcow2Image*> DiskControl::qcow2_disk(const std::string& id) const {
    LiveDisk* live = TRY(idle_disk(id));
    if (live->qcow2() == nullptr) {
        return Error::unsupported("disk {} is raw: it has neither overlays nor bitmaps", id)
            .with_hint("only a full backup is possible");
    }
    return live->qcow2();
}

// --- Jobs ---

Result<Json> DiskControl::backup(const JsonView& params) {
    TRY(params.only({"disk", "target", "format", "mode", "bitmap", "backing", "backing_format"}));
    const std::string id = TRY(params.string("disk"));
    LiveDisk* live = TRY(idle_disk(id));
    BackupTargetOptions target;
    target.path = TRY(absolute_path(params, "target"));
    target.format =
        TRY(one_of(params, "format", "qcow2", "raw")) ? DiskFormat::Qcow2 : DiskFormat::Raw;
    target.size = live->size();
    target.backing_file = TRY(params.string_or("backing", ""));
    target.backing_format = TRY(params.string_or("backing_format", "qcow2"));
    BackupJob::Options options;
    const bool incremental = !TRY(one_of(params, "mode", "full", "incremental"));
    options.mode = incremental ? BackupJob::Mode::Incremental : BackupJob::Mode::Full;
    options.bitmap = TRY(params.string_or("bitmap", ""));
    if (incremental != !target.backing_file.empty() || (incremental && options.bitmap.empty())) {
        return Error::invalid(
            "an incremental backup needs \"bitmap\" and \"backing\", the backup before it; a full "
            "one has no \"backing\"");
    }
    auto file = TRY(BackupTarget::create(files_, target));
    auto job = std::make_unique<BackupJob>(*live, std::move(file), std::move(options));
    TRY(machine_.with_disk_still(id, [&] { return job->begin(); }));
    return start(id, *live, std::move(job));
}

Result<Json> DiskControl::flatten(const JsonView& params) {
    TRY(params.only({"disk"}));
    const std::string id = TRY(params.string("disk"));
    Qcow2Image* image = TRY(qcow2_disk(id));
    if (image->store().backing() == nullptr) {
        return Error::conflict("disk {} has no backing file", id);
    }
    LiveDisk* live = TRY(disk(id));
    return start(id, *live, std::make_unique<FlattenJob>(*image));
}

Result<Json> DiskControl::commit(const JsonView& params) {
    TRY(params.only({"disk"}));
    const std::string id = TRY(params.string("disk"));
    Qcow2Image* image = TRY(qcow2_disk(id));
    auto job = TRY(CommitJob::create(files_, *image));
    TRY(machine_.with_disk_still(id, [&] { return job->begin(); }));
    LiveDisk* live = TRY(disk(id));
    return start(id, *live, std::move(job));
}

Json DiskControl::start(const std::string& id, LiveDisk& disk, std::unique_ptr<LiveJob> job) {
    LiveJob& running = *job;
    disk.set_job(std::move(job));
    run(id, running);
    return running.status();
}

// The job may end when this is gone, but the loop is still there.
void DiskControl::run(const std::string& id, LiveJob& job) {
    job.start([this, &loop = loop_, id, life = std::weak_ptr<int>(life_)] {
        loop.post([this, id, life] {
            if (!life.expired()) {
                worked(id);
            }
        });
    });
}

// The job's thread is at its end. The disk may have gone, or have another job, since it said so.
void DiskControl::worked(const std::string& id) {
    const auto found = disk(id);
    LiveJob* job = found.ok() ? (*found)->job() : nullptr;
    if (job == nullptr || !job->running()) {
        return;
    }
    const std::string before = (*found)->name();
    bool ended = true;
    const auto stood = machine_.with_disk_still(id, [&]() -> Result<void> {
        ended = job->finish();
        (*found)->set_gate(nullptr);
        return {};
    });
    if (!stood.ok()) {  // its gate stays, open; the next job replaces it
        log_warn("block", "the disk did not stand still",
                 {{"disk", id}, {"why", stood.error().text()}});
        job->cancel();
        ended = job->finish();
    }
    if (!ended) {
        return run(id, *job);
    }
    if ((*found)->name() != before) {
        machine_.disk_moved(id, (*found)->name());
    }
    Json data = job->status();
    data.set("disk", id);
    machine_.event(
        {data.string_or("state") == "done" ? "disk_job_done" : "disk_job_failed", std::move(data)});
}

Result<Json> DiskControl::job(const JsonView& params) {
    TRY(params.only({"disk"}));
    const LiveJob* job = TRY(disk(TRY(params.string("disk"))))->job();
    return job == nullptr ? Json::object({{"state", "idle"}}) : job->status();
}

Result<Json> DiskControl::job_cancel(const JsonView& params) {
    TRY(params.only({"disk"}));
    LiveJob* job = TRY(disk(TRY(params.string("disk"))))->job();
    if (job == nullptr || !job->running()) {
        return Error::conflict("no job of this disk is under way");
    }
    job->cancel();
    return job->status();
}

Result<Json> DiskControl::snapshot(const JsonView& params) {
    TRY(params.only({"disk", "overlay", "backing"}));
    const OverlayRequest request = TRY(OverlayRequest::parse(params));
    OverlaySet overlays = TRY(open_overlays({&request, 1}));
    const int64_t begun = clock_.monotonic_ns();
    TRY(machine_.with_disk_still(request.disk, [&] { return overlays.enter(); }));
    const int64_t stopped = clock_.monotonic_ns() - begun;
    entered(overlays);
    return Json::object({{"overlay", request.path},
                         {"below", overlays.overlays().front().below},
                         {"stopped_ns", stopped}});
}

Result<OverlaySet> DiskControl::open_overlays(std::span<const OverlayRequest> requests) {
    OverlaySet overlays;
    for (const OverlayRequest& request : requests) {
        for (const auto& other : overlays.overlays()) {
            if (other.disk == request.disk || other.path == request.path) {
                return Error::invalid("disk {} or file {} is named twice", request.disk,
                                      request.path);
            }
        }
        Qcow2Image* image = TRY(qcow2_disk(request.disk));
        auto store = TRY(open_overlay(files_, *image, request.path, request.backing));
        overlays.add({request.disk, request.path, image->name(), false, image, std::move(store)});
    }
    return Result<OverlaySet>(std::move(overlays));
}

void DiskControl::entered(const OverlaySet& overlays) {
    for (const auto& overlay : overlays.overlays()) {
        if (overlay.entered) {
            machine_.disk_moved(overlay.disk, overlay.path);
        }
    }
}

// --- Bitmaps ---

Result<Json> DiskControl::bitmap_add(const JsonView& params) {
    TRY(params.only({"disk", "name", "granularity"}));
    Qcow2Image* image = TRY(qcow2_disk(TRY(params.string("disk"))));
    const int64_t granularity = TRY(params.integer_or("granularity", 0, {0, kGranularityMax}));
    const std::string name = TRY(params.string("name"));
    TRY(image->bitmaps().add(name, static_cast<uint64_t>(granularity), true));
    return Json::object();
}

Result<Json> DiskControl::bitmap_change(const JsonView& params, bool remove) {
    TRY(params.only({"disk", "name"}));
    Qcow2Image* image = TRY(qcow2_disk(TRY(params.string("disk"))));
    const std::string name = TRY(params.string("name"));
    TRY(remove ? image->bitmaps().remove(name) : image->bitmaps().clear(name));
    return Json::object();
}

Result<Json> DiskControl::bitmap_list(const JsonView& params) {
    TRY(params.only({"disk"}));
    LiveDisk* live = TRY(disk(TRY(params.string("disk"))));
    Json list = Json::array();
    if (live->qcow2() != nullptr) {
        for (const qcow2::BitmapInfo& bitmap : live->qcow2()->bitmaps().list()) {
            list.push_back(Json::object({{"name", bitmap.name},
                                         {"granularity", bitmap.granularity},
                                         {"dirty_bytes", bitmap.dirty_bytes},
                                         {"enabled", bitmap.enabled},
                                         {"persistent", bitmap.persistent},
                                         {"consistent", !bitmap.inconsistent}}));
        }
    }
    return Json::object({{"bitmaps", std::move(list)}});
}

}  // namespace kumoi::hypervisor
