#include "hypervisor/vmm_snapshot.h"

#include <algorithm>

#include <fcntl.h>

#include "base/log.h"
#include "base/version.h"
#include "hypervisor/block/live/disk_control.h"
#include "hypervisor/machine_state.h"
#include "hypervisor/sandbox/thread_class.h"
#include "hypervisor/snapshot/memory_loader.h"
#include "hypervisor/snapshot/snapshot_reader.h"
#include "hypervisor/snapshot/snapshot_writer.h"
#include "hypervisor/snapshot/working_set.h"
#include "hypervisor/vmm.h"

namespace kumoi::hypervisor {

namespace {

std::string_view to_string(VmmSnapshots::SaveState state) {
    switch (state) {
        case VmmSnapshots::SaveState::Idle: return "idle";
        case VmmSnapshots::SaveState::Saving: return "saving";
        case VmmSnapshots::SaveState::Done: return "done";
        default: return "failed";
    }
}

// With a file system, under a name of its own until it is whole; in a sandbox into the descriptor
// that was passed for the path.
Result<SnapshotOutput> open_output(FileSource& files, const std::string& path) {
    SnapshotOutput output;
    if (seccomp_closed()) {
        output.fd = TRY_CONTEXT(files.open(path, O_RDWR), "creating the snapshot");
        return output;
    }
    output.partial = path + ".part";
    output.fd = TRY_CONTEXT(files.open(output.partial, O_RDWR | O_CREAT | O_TRUNC, 0600),
                            "creating the snapshot");
    output.path = path;
    return output;
}

// A disk's back end in another process maps guest memory too: what it reads or writes there is not
// seen by our userfaultfd. A network card's sees only buffers of ours (net/vhost_user_net).
bool shares_memory(const VmConfig& config) {
    return std::ranges::any_of(config.disks,
                               [](const DiskConfig& disk) { return !disk.vhost_user.empty(); });
}

}  // namespace

Result<SaveRequest> SaveRequest::parse(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"path", "mode", "compress", "after", "threads", "overlays"}));
    SaveRequest request;
    request.path = TRY(view.string("path"));
    if (request.path.empty() || request.path.front() != '/') {
        return Error::invalid("params.path: \"{}\" is not an absolute path", request.path);
    }
    const std::string mode = TRY(view.string_or("mode", "stop"));
    if (mode != "stop" && mode != "live") {
        return Error::invalid("params.mode: \"{}\" is not \"stop\" or \"live\"", mode);
    }
    request.mode = mode == "live" ? SaveJob::Mode::Live : SaveJob::Mode::Stopped;
    request.compression =
        TRY(view.boolean_or("compress", false)) ? Compression::Zstd : Compression::None;
    const std::string after = TRY(view.string_or("after", "resume"));
    if (after == "pause") {
        request.after = AfterSave::Pause;
    } else if (after == "quit") {
        request.after = AfterSave::Quit;
    } else if (after != "resume") {
        return Error::invalid("params.after: \"{}\" is not \"resume\", \"pause\" or \"quit\"",
                              after);
    }
    if (request.mode == SaveJob::Mode::Live && request.after != AfterSave::Resume) {
        return Error::invalid("params.after: a live save leaves the guest running");
    }
    constexpr int64_t kThreadsMax = 16;
    request.threads = static_cast<unsigned>(TRY(view.integer_or("threads", 2, {1, kThreadsMax})));
    const auto overlays =
        view.has("overlays") ? TRY(view.array("overlays")) : std::vector<JsonView>();
    for (const JsonView& overlay : overlays) {
        TRY(overlay.only({"disk", "overlay", "backing"}));
        request.overlays.push_back(TRY(OverlayRequest::parse(overlay)));
    }
    return request;
}

Json VmmSnapshots::save_json() const {
    Json json = Json::object({{"state", to_string(save_state)}});
    if (save_state == SaveState::Idle) {
        return json;
    }
    const SaveJob::Statistics now = job ? job->statistics() : saved;
    json.set("path", request.path);
    json.set("mode", request.mode == SaveJob::Mode::Live ? "live" : "stop");
    json.set("blocks", now.blocks);
    json.set("blocks_done", now.blocks_done);
    json.set("bytes_written", now.bytes_written);
    json.set("zero_pages", now.zero_pages);
    json.set("copied_blocks", now.faults);
    json.set("copies_written_at_once", now.pool_full);
    json.set("copy_ns_max", now.fault_ns_max);
    json.set("stopped_ns", stopped_ns);
    if (!overlays.is_null()) {
        json.set("overlays", overlays);
    }
    if (save_state != SaveState::Saving) {
        json.set("duration_ns", save_took_ns);
    }
    if (save_error) {
        json.set("error", control_error_json(*save_error));
    }
    return json;
}

Json VmmSnapshots::memory_json() const {
    if (!pages) {
        return Json::object({{"state", restored_from.empty() ? "own" : "loaded"}});
    }
    const PageServer::Statistics now = pages->statistics();
    return Json::object({{"state", pages->finished() ? "loaded" : "loading"},
                         {"blocks", now.blocks},
                         {"blocks_done", now.blocks_done},
                         {"faults", now.faults},
                         {"fault_ns_max", now.fault_ns_max},
                         {"prefetched", now.prefetched}});
}

// --- Saving ---

Result<void> Vmm::may_save(const SaveRequest& request) const {
    if (state_ != VmState::Running && state_ != VmState::Paused) {
        return Error::conflict("the machine is {}; only a running or paused one can be saved",
                               to_string(state_));
    }
    if (snapshots_.saving()) {
        return Error::conflict("a save to {} is under way", snapshots_.request.path)
            .with_hint("wait for it, or call save_cancel");
    }
    if (snapshots_.pages && !snapshots_.pages->finished()) {
        return Error::conflict("the machine's own memory is still being loaded")
            .with_hint("wait for the event memory_loaded");
    }
    if (request.mode == SaveJob::Mode::Live && shares_memory(config_)) {
        return Error::unsupported(
                   "a disk's vhost-user back end writes to guest memory unseen, so "
                   "the guest cannot be saved while it runs")
            .with_hint("save it with mode \"stop\"");
    }
    if (request.mode == SaveJob::Mode::Live && memory_->huge_pages()) {
        return Error::unsupported("a guest in huge pages cannot be saved while it runs")
            .with_hint("save it with mode \"stop\"");
    }
    return {};
}

Result<Json> Vmm::save(const SaveRequest& request) {
    TRY(may_save(request));
    snapshots_.job.reset();
    OverlaySet overlays = TRY(disk_control_->open_overlays(request.overlays));
    auto writer = TRY(SnapshotWriter::create(TRY(open_output(seams_.files, request.path)),
                                             memory_->size(), request.compression));
    auto job = TRY(SaveJob::create(seams_.files, *memory_, std::move(writer), seams_.clock,
                                   {.mode = request.mode, .threads = request.threads}));
    const bool was_running = state_ == VmState::Running;
    TRY(job->arm());
    const int64_t begun = seams_.clock.monotonic_ns();
    if (was_running) {
        TRY(request.mode == SaveJob::Mode::Live ? stop_for_a_moment() : pause());
    }
    memory_->forbid_discard();
    auto sections = take_state(*job, overlays);
    if (request.mode == SaveJob::Mode::Live && was_running) {
        go_on();  // what it writes from here on is copied first, by the thread that arm() started
    }
    const int64_t stopped = seams_.clock.monotonic_ns() - begun;
    auto started = sections ? start_saving(*job, std::move(sections).value(), request)
                            : Result<void>(std::move(sections).error());
    disk_control_->entered(overlays);  // the file has the configuration of before
    if (!started) {
        memory_->allow_discard();
        if (request.mode == SaveJob::Mode::Stopped && was_running) {
            TRY(resume());
        }
        return std::move(started).error();
    }
    snapshots_.request = request;
    snapshots_.was_running = was_running;
    snapshots_.save_state = VmmSnapshots::SaveState::Saving;
    snapshots_.save_begun_ns = begun;
    snapshots_.stopped_ns = request.mode == SaveJob::Mode::Live ? stopped : 0;
    snapshots_.overlays = request.overlays.empty() ? Json() : overlays.json();
    snapshots_.save_error.reset();
    snapshots_.job = std::move(job);
    return snapshots_.save_json();
}

Snapshottable* Vmm::nvram() {
    return firmware_ ? firmware_->nvram() : nullptr;
}

// The vCPUs and devices stand still; the state stays "running" for everybody else.
Result<void> Vmm::stop_for_a_moment() {
    TRY(pause_vcpus());
    devices_->pause();
    return {};
}

void Vmm::go_on() {
    devices_->resume();
    resume_vcpus();
}

// The guest stands still for this: nothing here that could as well be done later.
Result<std::vector<SectionWriter>> Vmm::take_state(SaveJob& job, OverlaySet& overlays) {
    const uint64_t clock_ns = paused_clock_ns_ ? *paused_clock_ns_ : TRY(vm_->clock());
    const MachineState state({config_, *kvm_, *vm_, *devices_, vcpus_, nvram()});
    auto sections = TRY(state.save(clock_ns));
    TRY(job.prepare());
    TRY(overlays.enter());
    return sections;
}

Result<void> Vmm::start_saving(SaveJob& job, std::vector<SectionWriter> sections,
                               const SaveRequest& request) {
    const MachineState state({config_, *kvm_, *vm_, *devices_, vcpus_, nvram()});
    SnapshotInfo info;
    info.board = config_.board;
    info.program = kVersion;
    info.config = config_.source.dump();
    info.directory = config_.base_directory;
    info.shape_digest = state.shape_digest();
    info.created_ns = seams_.clock.wall_ns();
    log_info("snapshot", "saving",
             {{"path", request.path}, {"sections", static_cast<uint64_t>(sections.size())}});
    return job.start(std::move(info), std::move(sections), [this](Result<void> result) {
        post_alive([this, result = std::move(result)] { save_finished(result); });
    });
}

Result<void> Vmm::save_cancel() {
    if (!snapshots_.saving()) {
        return Error::conflict("no save is under way");
    }
    snapshots_.job->cancel();
    return {};
}

void Vmm::save_finished(const Result<void>& result) {
    if (!snapshots_.saving()) {
        return;
    }
    memory_->allow_discard();
    const SaveRequest request = snapshots_.request;
    snapshots_.saved = snapshots_.job->statistics();
    snapshots_.job.reset();
    snapshots_.save_took_ns = seams_.clock.monotonic_ns() - snapshots_.save_begun_ns;
    snapshots_.save_state =
        result ? VmmSnapshots::SaveState::Done : VmmSnapshots::SaveState::Failed;
    if (request.mode == SaveJob::Mode::Stopped && snapshots_.was_running) {
        snapshots_.stopped_ns = snapshots_.save_took_ns;
    }
    if (!result) {
        snapshots_.save_error = result.error();
        log_error("snapshot", "the save failed",
                  {{"path", request.path}, {"error", result.error().text()}});
    }
    hooks_.event({result ? "save_done" : "save_failed", snapshots_.save_json()});
    const bool goes_on = !result || request.after == AfterSave::Resume;
    if (snapshots_.was_running && goes_on && state_ == VmState::Paused) {
        if (auto resumed = resume(); !resumed) {
            log_error("snapshot", "resuming after the save", {{"error", resumed.error().text()}});
        }
    }
    if (result && request.after == AfterSave::Quit) {
        hooks_.finished(VmExit::Clean);
    }
}

// Memory is about to be emptied: what is not yet saved cannot be any more, and what has not been
// loaded need not be.
void Vmm::drop_snapshots() {
    if (snapshots_.saving()) {
        snapshots_.job->cancel();
        snapshots_.saved = snapshots_.job->statistics();
        snapshots_.job.reset();  // waits
        snapshots_.save_state = VmmSnapshots::SaveState::Failed;
        snapshots_.save_error =
            Error::make(ErrorCode::Cancelled, "the guest was reset while it was being saved");
        memory_->allow_discard();
        hooks_.event({"save_failed", snapshots_.save_json()});
    }
    snapshots_.pages.reset();
}

// --- Restoring ---

namespace {

Result<VmConfig> config_of(const SnapshotReader& reader, const std::string& name) {
    const auto& info = reader.index().info;
    return TRY_CONTEXT(parse_vm_config(TRY(Json::parse(info.config)), info.directory),
                       "the configuration in snapshot {}", name);
}

}  // namespace

Result<VmConfig> snapshot_config(UniqueFd fd, const std::string& name) {
    const auto reader = TRY(SnapshotReader::open(std::move(fd), name));
    return config_of(*reader, name);
}

Result<std::unique_ptr<Vmm>> Vmm::restore(RestoreRequest request, Seams seams, Hooks hooks) {
    UniqueFd fd = TRY_CONTEXT(seams.files.open(request.path, O_RDONLY), "opening the snapshot");
    auto reader = TRY(SnapshotReader::open(std::move(fd), request.path));
    VmConfig config =
        request.config ? std::move(*request.config) : TRY(config_of(*reader, request.path));
    std::unique_ptr<Vmm> vmm(new Vmm(std::move(config), seams, std::move(hooks)));
    TRY(vmm->create_parts());
    TRY_CONTEXT(vmm->load_snapshot(std::move(reader), request), "restoring {}", request.path);
    return vmm;
}

Result<void> Vmm::load_snapshot(std::unique_ptr<SnapshotReader> reader,
                                const RestoreRequest& request) {
    MachineState state({config_, *kvm_, *vm_, *devices_, vcpus_, nvram()});
    SnapshotReader& file = *reader;  // lives on in the page server while memory is on demand
    const SectionSource sections = [&file](const std::string& name) { return file.section(name); };
    TRY(state.check(sections));
    devices_->pause();
    if (request.on_demand && memory_on_demand_works()) {
        TRY(serve_pages(std::move(reader), request.path));
    } else {
        TRY(load_all_blocks(file, *memory_, request.threads));
    }
    paused_clock_ns_ = TRY(state.load(sections));
    snapshots_.restored_from = request.path;
    return {};
}

bool Vmm::memory_on_demand_works() const {
    if (shares_memory(config_)) {
        log_info("snapshot", "a vhost-user back end needs all memory at once");
        return false;
    }
    if (memory_->huge_pages()) {
        log_info("snapshot", "huge pages come all at once: all memory is read first");
        return false;
    }
    if (auto faults = Userfault::open(seams_.files, Userfault::Mode::Missing); !faults) {
        log_warn("snapshot", "no memory on demand: all of it is read first",
                 {{"reason", faults.error().text()}});
        return false;
    }
    return true;
}

// From the threads of a save or restore, which end before the machine does; what they have posted
// may still be waiting then.
void Vmm::post_alive(std::function<void()> function) {
    seams_.loop.post([life = std::weak_ptr<int>(life_), function = std::move(function)] {
        if (!life.expired()) {
            function();
        }
    });
}

Result<void> Vmm::serve_pages(std::unique_ptr<SnapshotReader> reader, const std::string& path) {
    PageServer::Options options;
    const uint32_t fingerprint = reader->fingerprint();
    options.working_set = read_working_set(seams_.files, path, fingerprint);
    PageServer::Events events;
    events.failed = [this](const Error& error) {
        post_alive([this, error] { memory_failed(error); });
    };
    events.finished = [this] { post_alive([this] { memory_loaded(); }); };
    if (options.working_set.empty()) {
        events.recorded = [this, path, fingerprint](std::vector<uint32_t> blocks) {
            post_alive([this, path, fingerprint, blocks = std::move(blocks)] {
                write_working_set(seams_.files, path, fingerprint, blocks);
            });
        };
    }
    snapshots_.pages = TRY(PageServer::start(seams_.files, *memory_, std::move(reader),
                                             seams_.clock, std::move(options), std::move(events)));
    return {};
}

void Vmm::memory_loaded() {
    if (snapshots_.pages) {
        hooks_.event({"memory_loaded", snapshots_.memory_json()});
    }
}

// A page cannot be had: whoever touched it waits for it, deep in the kernel, where a vCPU hears no
// kick. So nobody is waited for: those that run park, the others stand still as they are, and
// resume() asks for the page again.
void Vmm::memory_failed(const Error& error) {
    hooks_.event({"memory_error", Json::object({{"error", control_error_json(error)}})});
    if (state_ != VmState::Running) {
        return;
    }
    for (const auto& vcpu : vcpus_) {
        vcpu->request_pause();
    }
    snapshots_.memory_missing = true;
    set_state(VmState::Paused, "paused", Json::object({{"reason", "memory cannot be read"}}));
}

}  // namespace kumoi::hypervisor
