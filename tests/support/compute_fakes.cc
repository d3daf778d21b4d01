#include "tests/support/compute_fakes.h"

#include <algorithm>

#include "base/digest.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

Error no_such_server(const std::string& uuid) {
    return Error::not_found("Instance {} could not be found.", uuid).with_fault("InstanceNotFound");
}

std::string task_text(const std::optional<std::string>& state) {
    return state ? *state : "-";
}

}  // namespace

Result<void> CallLog::enter(const std::string& call) {
    {
        const std::lock_guard lock(mutex_);
        calls_.push_back(call);
    }
    if (on_border) {
        on_border();
    }
    return fail ? fail(call) : Result<void>();
}

void CallLog::leave() {
    if (on_border) {
        on_border();
    }
}

std::vector<std::string> CallLog::calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
}

size_t CallLog::count(const std::string& call) const {
    const std::lock_guard lock(mutex_);
    return static_cast<size_t>(std::count(calls_.begin(), calls_.end(), call));
}

Result<Instance> FakeConductor::instance_get(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    const auto found = instances_.find(uuid);
    if (found == instances_.end()) {
        return no_such_server(uuid);
    }
    return found->second;
}

Result<std::vector<Instance>> FakeConductor::instances_by_host(const std::string& host) {
    const std::lock_guard lock(mutex_);
    std::vector<Instance> here;
    for (const auto& [uuid, instance] : instances_) {
        if (instance.host == host) {
            here.push_back(instance);
        }
    }
    return here;
}

Result<void> FakeConductor::instance_save(const std::string& uuid, const InstanceUpdate& update) {
    TRY(log_.enter("conductor.save"));
    {
        const std::lock_guard lock(mutex_);
        const auto found = instances_.find(uuid);
        if (found == instances_.end()) {
            return no_such_server(uuid);
        }
        Instance& instance = found->second;
        if (update.expected_task_state) {
            const auto& expected = *update.expected_task_state;
            if (std::find(expected.begin(), expected.end(), instance.task_state) ==
                expected.end()) {
                const bool deleting = instance.task_state == task_states::kDeleting;
                return Error::conflict("unexpected task_state {}", task_text(instance.task_state))
                    .with_fault(deleting ? "UnexpectedDeletingTaskStateError"
                                         : "UnexpectedTaskStateError");
            }
        }
        instance.vm_state = update.vm_state.value_or(instance.vm_state);
        instance.power_state = update.power_state.value_or(instance.power_state);
        instance.host = update.host.value_or(instance.host);
        instance.node = update.node.value_or(instance.node);
        instance.launched_ns = update.launched_ns.value_or(instance.launched_ns);
        instance.terminated_ns = update.terminated_ns.value_or(instance.terminated_ns);
        instance.network_info = update.network_info.value_or(instance.network_info);
        instance.system_metadata = update.system_metadata.value_or(instance.system_metadata);
        instance.flavor = update.flavor.value_or(instance.flavor);
        instance.old_flavor = update.old_flavor.value_or(instance.old_flavor);
        instance.new_flavor = update.new_flavor.value_or(instance.new_flavor);
        if (update.task_state) {
            instance.task_state = *update.task_state;
            if (!instance.task_state) {
                instance.task_arguments = {};
            }
            history_[uuid].push_back(task_text(instance.task_state));
        }
    }
    log_.leave();
    return {};
}

Result<void> FakeConductor::instance_destroy(const std::string& uuid) {
    TRY(log_.enter("conductor.destroy"));
    {
        const std::lock_guard lock(mutex_);
        if (instances_.erase(uuid) == 0) {
            return no_such_server(uuid);
        }
    }
    log_.leave();
    return {};
}

Result<void> FakeConductor::fault_create(const std::string& uuid, const Fault& fault) {
    TRY(log_.enter("conductor.fault"));
    {
        const std::lock_guard lock(mutex_);
        const auto found = instances_.find(uuid);
        if (found == instances_.end()) {
            return no_such_server(uuid);
        }
        found->second.fault = fault;
        ++faults_[uuid];
    }
    log_.leave();
    return {};
}

Result<void> FakeConductor::action_event_start(const RequestContext&, const std::string& uuid,
                                               const std::string& event, const std::string&) {
    TRY(log_.enter("conductor.event_start"));
    {
        const std::lock_guard lock(mutex_);
        open_events_.insert(uuid + " " + event);
    }
    log_.leave();
    return {};
}

Result<void> FakeConductor::action_event_finish(const RequestContext&, const std::string& uuid,
                                                const std::string& event,
                                                const std::optional<Error>&) {
    TRY(log_.enter("conductor.event_finish"));
    {
        const std::lock_guard lock(mutex_);
        open_events_.erase(uuid + " " + event);
    }
    log_.leave();
    return {};
}

Result<void> FakeConductor::reschedule_build(const RequestContext&, const std::string& uuid,
                                             const Error&) {
    TRY(log_.enter("conductor.reschedule"));
    {
        const std::lock_guard lock(mutex_);
        const auto found = instances_.find(uuid);
        if (found == instances_.end()) {
            return no_such_server(uuid);
        }
        found->second.host.clear();
        found->second.node.clear();
        found->second.network_info.clear();
        found->second.task_state = task_states::kScheduling;
        rescheduled_.push_back(uuid);
    }
    log_.leave();
    return {};
}

Result<void> FakeConductor::migration_save(const std::string& uuid, const std::string& status) {
    TRY(log_.enter("conductor.migration"));
    {
        const std::lock_guard lock(mutex_);
        migrations_[uuid] = status;
    }
    log_.leave();
    return {};
}

Result<void> FakeConductor::poll_servers(const std::string&) {
    return log_.enter("conductor.poll");
}

std::string FakeConductor::migration_status(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = migrations_.find(uuid);
    return found == migrations_.end() ? "" : found->second;
}

Result<void> FakeConductor::service_heartbeat(const std::string&) {
    const std::lock_guard lock(mutex_);
    ++heartbeats_;
    return {};
}

Result<void> FakeConductor::compute_node_update(const ComputeNode& node) {
    const std::lock_guard lock(mutex_);
    node_ = node;
    return {};
}

void FakeConductor::add(const Instance& instance) {
    const std::lock_guard lock(mutex_);
    instances_[instance.uuid] = instance;
}

Instance FakeConductor::get(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = instances_.find(uuid);
    return found == instances_.end() ? Instance() : found->second;
}

bool FakeConductor::has(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    return instances_.contains(uuid);
}

std::vector<std::string> FakeConductor::open_events() const {
    const std::lock_guard lock(mutex_);
    return {open_events_.begin(), open_events_.end()};
}

std::vector<std::string> FakeConductor::task_state_history(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = history_.find(uuid);
    return found == history_.end() ? std::vector<std::string>() : found->second;
}

std::vector<std::string> FakeConductor::rescheduled() const {
    const std::lock_guard lock(mutex_);
    return rescheduled_;
}

ComputeNode FakeConductor::node() const {
    const std::lock_guard lock(mutex_);
    return node_;
}

int FakeConductor::heartbeats() const {
    const std::lock_guard lock(mutex_);
    return heartbeats_;
}

size_t FakeConductor::fault_count(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = faults_.find(uuid);
    return found == faults_.end() ? 0 : found->second;
}

Result<std::string> FakeVifs::plug(const Instance& instance, const VifInfo& vif) {
    TRY(log_.enter("vifs.plug"));
    const std::string tap = "tap" + vif.port_id.substr(0, 11);
    {
        const std::lock_guard lock(mutex_);
        taps_[tap] = instance.uuid;
    }
    log_.leave();
    return tap;
}

Result<void> FakeVifs::unplug(const Instance&, const VifInfo& vif) {
    TRY(log_.enter("vifs.unplug"));
    {
        const std::lock_guard lock(mutex_);
        taps_.erase("tap" + vif.port_id.substr(0, 11));
    }
    log_.leave();
    return {};
}

Result<void> FakeVifs::reconcile(const std::vector<Instance>& instances) {
    TRY(log_.enter("vifs.reconcile"));
    {
        const std::lock_guard lock(mutex_);
        std::set<std::string> wanted;
        for (const Instance& instance : instances) {
            for (const VifInfo& vif : instance.network_info) {
                wanted.insert("tap" + vif.port_id.substr(0, 11));
                taps_["tap" + vif.port_id.substr(0, 11)] = instance.uuid;
            }
        }
        std::erase_if(taps_, [&](const auto& entry) { return !wanted.contains(entry.first); });
    }
    log_.leave();
    return {};
}

std::set<std::string> FakeVifs::taps() const {
    const std::lock_guard lock(mutex_);
    std::set<std::string> names;
    for (const auto& [tap, uuid] : taps_) {
        names.insert(tap);
    }
    return names;
}

Result<void> FakeDriver::init_host(const std::string&) {
    return log_.enter("driver.init_host");
}

void FakeDriver::set_event_listener(std::function<void(const LifecycleEvent&)> listener) {
    const std::lock_guard lock(mutex_);
    listener_ = std::move(listener);
}

Result<void> FakeDriver::spawn(const SpawnRequest& request) {
    return change_disk("driver.spawn", request.instance, power_states::kRunning,
                       [&](FakeDisk& disk) {
                           auto& mine = volumes_[request.instance.uuid];
                           mine.clear();
                           for (const VolumeDisk& volume : request.volumes) {
                               mine[volume.volume_id] = volume.socket;
                           }
                           disk = FakeDisk();
                           disk.image_id = request.instance.image_id;
                           disk.flavor_id = request.instance.flavor.flavor_id;
                           told_devices = request.devices;
                       });
}

Result<void> FakeDriver::suspend(const Instance& instance) {
    return change_disk("driver.suspend", instance, power_states::kShutdown,
                       [](FakeDisk& disk) { disk.saved_state = true; });
}

Result<void> FakeDriver::resume(const Instance& instance) {
    return change_disk("driver.resume", instance, power_states::kRunning,
                       [](FakeDisk& disk) { disk.saved_state = false; });
}

Result<std::unique_ptr<DiskSnapshot>> FakeDriver::snapshot(const Instance& instance) {
    class Memory final : public DiskSnapshot {
    public:
        explicit Memory(std::string data) : data_(std::move(data)) {}
        std::string disk_format() const override { return "raw"; }
        uint64_t virtual_size() const override { return uint64_t{1} << 30; }
        Result<size_t> read(std::span<std::byte> buffer, uint64_t offset) override {
            const auto bytes =
                std::as_bytes(std::span(data_)).subspan(std::min<size_t>(offset, data_.size()));
            const size_t count = std::min(buffer.size(), bytes.size());
            std::copy_n(bytes.begin(), count, buffer.begin());
            return count;
        }

    private:
        const std::string data_;
    };
    TRY(log_.enter("driver.snapshot"));
    auto memory = std::make_unique<Memory>("disk of " + instance.uuid + disk(instance.uuid).data);
    log_.leave();
    return std::unique_ptr<DiskSnapshot>(std::move(memory));
}

Result<void> FakeDriver::rescue(const RescueSpec& spec) {
    return change_disk("driver.rescue", spec.instance, power_states::kRunning,
                       [](FakeDisk& disk) { disk.rescued = true; });
}

Result<void> FakeDriver::unrescue(const Instance& instance, bool power_on) {
    return change_disk("driver.unrescue", instance,
                       power_on ? power_states::kRunning : power_states::kShutdown,
                       [](FakeDisk& disk) { disk.rescued = false; });
}

Result<void> FakeDriver::rebuild(const SpawnRequest& request, bool) {
    return change_disk("driver.rebuild", request.instance, power_states::kRunning,
                       [&](FakeDisk& disk) {
                           disk = FakeDisk();
                           disk.image_id = request.instance.image_id;
                           disk.flavor_id = request.instance.flavor.flavor_id;
                       });
}

Result<void> FakeDriver::migrate_disk_and_power_off(const Instance& instance, const Flavor&,
                                                    int64_t) {
    return change_disk("driver.migrate_disk", instance, power_states::kShutdown,
                       [](FakeDisk& disk) {
                           if (disk.old == nullptr) {
                               disk.old = std::make_shared<FakeDisk>(disk);
                           }
                       });
}

Result<void> FakeDriver::finish_migration(const Instance& instance, bool power_on) {
    return change_disk("driver.finish_migration", instance,
                       power_on ? power_states::kRunning : power_states::kShutdown,
                       [&](FakeDisk& disk) { disk.flavor_id = instance.flavor.flavor_id; });
}

Result<void> FakeDriver::confirm_migration(const Instance& instance) {
    return change_disk("driver.confirm_migration", instance, power(instance.uuid),
                       [](FakeDisk& disk) { disk.old = nullptr; });
}

Result<void> FakeDriver::finish_revert_migration(const Instance& instance, bool power_on) {
    return change_disk("driver.revert_migration", instance,
                       power_on ? power_states::kRunning : power_states::kShutdown,
                       [](FakeDisk& disk) {
                           if (disk.old != nullptr) {
                               disk = FakeDisk(*disk.old);
                           }
                       });
}

Result<void> FakeDriver::change_disk(const std::string& call, const Instance& instance,
                                     int power_state,
                                     const std::function<void(FakeDisk& disk)>& change) {
    TRY(log_.enter(call));
    {
        const std::lock_guard lock(mutex_);
        change(disks_[instance.uuid]);
        guests_[instance.uuid] = power_state;
    }
    log_.leave();
    return {};
}

FakeDisk FakeDriver::disk(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = disks_.find(uuid);
    return found == disks_.end() ? FakeDisk() : found->second;
}

void FakeDriver::write(const std::string& uuid, const std::string& data) {
    const std::lock_guard lock(mutex_);
    disks_[uuid].data += data;
}

Result<void> FakeDriver::destroy(const Instance& instance) {
    TRY(log_.enter("driver.destroy"));
    {
        const std::lock_guard lock(mutex_);
        guests_.erase(instance.uuid);
        disks_.erase(instance.uuid);
        volumes_.erase(instance.uuid);
        cards_.erase(instance.uuid);
    }
    log_.leave();
    return {};
}

Result<void> FakeDriver::power_on(const Instance& instance) {
    return change("driver.power_on", instance, power_states::kRunning);
}

Result<void> FakeDriver::power_off(const Instance& instance, int64_t timeout_s) {
    {
        const std::lock_guard lock(mutex_);
        last_timeout_s_ = timeout_s;
    }
    return change("driver.power_off", instance, power_states::kShutdown);
}

Result<void> FakeDriver::reboot(const Instance& instance, RebootType type) {
    return change(type == RebootType::Soft ? "driver.reboot_soft" : "driver.reboot_hard", instance,
                  power_states::kRunning);
}

Result<void> FakeDriver::pause(const Instance& instance) {
    return change("driver.pause", instance, power_states::kPaused);
}

Result<void> FakeDriver::unpause(const Instance& instance) {
    return change("driver.unpause", instance, power_states::kRunning);
}

Result<void> FakeDriver::change(const std::string& call, const Instance& instance,
                                int power_state) {
    TRY(log_.enter(call));
    set_guest(instance.uuid, power_state);
    log_.leave();
    return {};
}

Result<void> FakeDriver::attach_interface(const Instance& instance, const VifInfo& vif) {
    TRY(log_.enter("driver.attach_interface"));
    {
        const std::lock_guard lock(mutex_);
        cards_[instance.uuid][vif.port_id] = vif.pci_slot;
    }
    log_.leave();
    return {};
}

Result<void> FakeDriver::detach_interface(const Instance& instance, const VifInfo& vif) {
    TRY(log_.enter("driver.detach_interface"));
    {
        const std::lock_guard lock(mutex_);
        cards_[instance.uuid].erase(vif.port_id);
    }
    log_.leave();
    return {};
}

std::map<std::string, unsigned> FakeDriver::cards(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = cards_.find(uuid);
    return found == cards_.end() ? std::map<std::string, unsigned>() : found->second;
}

Result<InstanceInfo> FakeDriver::get_info(const Instance& instance) {
    const std::lock_guard lock(mutex_);
    const auto found = guests_.find(instance.uuid);
    if (found == guests_.end()) {
        return no_such_server(instance.uuid);
    }
    return InstanceInfo{found->second, 0};
}

Result<std::vector<std::string>> FakeDriver::list_instance_uuids() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> uuids;
    for (const auto& [uuid, power] : guests_) {
        uuids.push_back(uuid);
    }
    return uuids;
}

Result<std::string> FakeDriver::get_console_output(const Instance&, int64_t tail_lines) {
    return fmt::format("console {}", tail_lines);
}

Result<std::string> FakeDriver::get_vnc_console(const Instance& instance) {
    return "/" + instance.uuid + "/vnc.sock";
}

Result<std::string> FakeDriver::get_serial_console(const Instance& instance) {
    return "/" + instance.uuid + "/console.sock";
}

Result<Json> FakeDriver::get_instance_diagnostics(const Instance&) {
    return Json::object({{"state", "running"}});
}

Result<HostResources> FakeDriver::get_available_resource() {
    HostResources resources;
    resources.vcpus = 4;
    resources.memory_mb = 8192;
    resources.local_gb = 100;
    resources.local_gb_free = 90;
    return resources;
}

void FakeDriver::set_guest(const std::string& uuid, int power_state) {
    const std::lock_guard lock(mutex_);
    guests_[uuid] = power_state;
}

int FakeDriver::power(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = guests_.find(uuid);
    return found == guests_.end() ? 0 : found->second;
}

size_t FakeDriver::guest_count() const {
    const std::lock_guard lock(mutex_);
    return guests_.size();
}

int64_t FakeDriver::last_timeout_s() const {
    const std::lock_guard lock(mutex_);
    return last_timeout_s_;
}

void FakeDriver::send(const LifecycleEvent& event) {
    std::function<void(const LifecycleEvent&)> listener;
    {
        const std::lock_guard lock(mutex_);
        listener = listener_;
    }
    if (listener) {
        listener(event);
    }
}

Result<ImageMeta> FakeImages::show(const RequestContext&, const std::string& image_id) {
    TRY(log_.enter("images.show"));
    const std::lock_guard lock(mutex_);
    const auto found = images_.find(image_id);
    if (found == images_.end()) {
        return Error::not_found("Image {} could not be found.", image_id)
            .with_fault("ImageNotFound");
    }
    return found->second.first;
}

Result<void> FakeImages::download(
    const RequestContext&, const std::string& image_id,
    const std::function<Result<void>(std::span<const std::byte>)>& sink) {
    TRY(log_.enter("images.download"));
    std::string bytes;
    {
        const std::lock_guard lock(mutex_);
        const auto found = images_.find(image_id);
        if (found == images_.end()) {
            return Error::not_found("Image {} could not be found.", image_id)
                .with_fault("ImageNotFound");
        }
        bytes = found->second.second;
    }
    constexpr size_t kPiece = 64 << 10;
    for (size_t at = 0; at < bytes.size(); at += kPiece) {
        TRY(sink(std::as_bytes(std::span(bytes).subspan(at, std::min(kPiece, bytes.size() - at)))));
    }
    return {};
}

Result<ImageMeta> FakeImages::create(const RequestContext& context, const ImageMeta& meta) {
    TRY(log_.enter("images.create"));
    ImageMeta image = meta;
    {
        const std::lock_guard lock(mutex_);
        image.id = fmt::format("{:08}-1111-4111-8111-111111111111", next_++);
        image.status = "queued";
        image.owner = context.project_id;
        images_[image.id] = {image, ""};
    }
    log_.leave();
    return image;
}

Result<void> FakeImages::upload(const RequestContext&, const std::string& image_id,
                                const ImageMeta& meta, const Source& source) {
    TRY(log_.enter("images.upload"));
    std::string data;
    std::byte buffer[64];
    while (const size_t count = TRY(source(buffer, data.size()))) {
        data.append(reinterpret_cast<const char*>(buffer), count);
    }
    {
        const std::lock_guard lock(mutex_);
        const auto found = images_.find(image_id);
        if (found == images_.end()) {
            return Error::not_found("Image {} could not be found.", image_id)
                .with_fault("ImageNotFound");
        }
        ImageMeta& image = found->second.first;
        if (image.status == "queued") {
            image.status = "active";
            image.disk_format = meta.disk_format;
            image.properties.insert(meta.properties.begin(), meta.properties.end());
            found->second.second = data;
        }
    }
    log_.leave();
    return {};
}

Result<void> FakeImages::remove(const RequestContext&, const std::string& image_id) {
    TRY(log_.enter("images.remove"));
    {
        const std::lock_guard lock(mutex_);
        images_.erase(image_id);
    }
    log_.leave();
    return {};
}

Result<std::vector<ImageMeta>> FakeImages::list(const RequestContext&, const Properties& with) {
    const std::lock_guard lock(mutex_);
    std::vector<ImageMeta> result;
    for (const auto& [id, entry] : images_) {
        const Properties& has = entry.first.properties;
        const bool all = std::all_of(with.begin(), with.end(), [&](const auto& wanted) {
            const auto found = has.find(wanted.first);
            return found != has.end() && found->second == wanted.second;
        });
        if (all) {
            result.insert(result.begin(), entry.first);  // ids are made in order
        }
    }
    return result;
}

std::string FakeImages::status(const std::string& image_id) const {
    const std::lock_guard lock(mutex_);
    const auto found = images_.find(image_id);
    return found == images_.end() ? "" : found->second.first.status;
}

std::string FakeImages::data(const std::string& image_id) const {
    const std::lock_guard lock(mutex_);
    const auto found = images_.find(image_id);
    return found == images_.end() ? "" : found->second.second;
}

size_t FakeImages::count() const {
    const std::lock_guard lock(mutex_);
    return images_.size();
}

ImageMeta FakeImages::add(ImageMeta meta, std::string bytes) {
    meta.status = "active";
    meta.size = bytes.size();
    meta.os_hash_algo = "sha512";
    meta.os_hash_value = digest_hex(DigestKind::Sha512, bytes);
    meta.checksum = digest_hex(DigestKind::Md5, bytes);
    const std::lock_guard lock(mutex_);
    images_[meta.id] = {meta, std::move(bytes)};
    return meta;
}

}  // namespace kumoi::compute
