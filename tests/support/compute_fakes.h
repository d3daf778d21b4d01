// In-memory stand-ins for everything a ComputeManager borders on. Each keeps its state as the real
// service would, refuses what it would refuse, records its calls by name in one shared CallLog, and
// calls the log's hook before and after every change: a test's place to fail or to "crash" (throw).
// Any thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "compute/driver/virt_driver.h"
#include "compute/manager/conductor_api.h"
#include "compute/manager/image_api.h"
#include "compute/manager/network_api.h"

namespace kumoi::compute {

class CallLog {
public:
    // Returns the error a test wants this call to fail with. `call`: "network.allocate".
    std::function<Result<void>(const std::string& call)> fail;
    std::function<void()> on_border;  // before and after each call that changes something

    Result<void> enter(const std::string& call);
    void leave();
    std::vector<std::string> calls() const;
    size_t count(const std::string& call) const;

private:
    mutable std::mutex mutex_;
    std::vector<std::string> calls_;
};

// Knows servers, their events and faults; expected_task_state as Nova's compare-and-set.
class FakeConductor final : public ConductorApi {
public:
    explicit FakeConductor(CallLog& log) : log_(log) {}

    Result<Instance> instance_get(const std::string& uuid) override;
    Result<std::vector<Instance>> instances_by_host(const std::string& host) override;
    Result<void> instance_save(const std::string& uuid, const InstanceUpdate& update) override;
    Result<void> instance_destroy(const std::string& uuid) override;
    Result<void> fault_create(const std::string& uuid, const Fault& fault) override;
    Result<void> action_event_start(const RequestContext& context, const std::string& uuid,
                                    const std::string& event, const std::string& host) override;
    Result<void> action_event_finish(const RequestContext& context, const std::string& uuid,
                                     const std::string& event,
                                     const std::optional<Error>& failure) override;
    Result<void> reschedule_build(const RequestContext& context, const std::string& uuid,
                                  const Error& reason) override;
    Result<void> migration_save(const std::string& uuid, const std::string& status) override;
    Result<void> poll_servers(const std::string& host) override;
    Result<void> service_heartbeat(const std::string& host) override;
    Result<void> compute_node_update(const ComputeNode& node) override;

    void add(const Instance& instance);
    Instance get(const std::string& uuid) const;  // an empty one when unknown
    bool has(const std::string& uuid) const;
    std::vector<std::string> open_events() const;  // "uuid event"
    std::vector<std::string> task_state_history(const std::string& uuid) const;
    std::vector<std::string> rescheduled() const;
    ComputeNode node() const;
    int heartbeats() const;
    size_t fault_count(const std::string& uuid) const;
    std::string migration_status(const std::string& uuid) const;

private:
    CallLog& log_;
    mutable std::mutex mutex_;
    std::map<std::string, Instance> instances_;
    std::map<std::string, std::vector<std::string>> history_;
    std::map<std::string, size_t> faults_;
    std::map<std::string, std::string> migrations_;
    std::multiset<std::string> open_events_;
    std::vector<std::string> rescheduled_;
    ComputeNode node_;
    int heartbeats_ = 0;
};

// Ports by server. One address per requested network; none requested: one port.
class FakeNetwork final : public NetworkApi {
public:
    explicit FakeNetwork(CallLog& log) : log_(log) {}
    Result<std::vector<VifInfo>> allocate_for_instance(
        const RequestContext& context, const Instance& instance,
        const std::vector<RequestedNetwork>& requested) override;
    Result<void> deallocate_for_instance(const RequestContext& context,
                                         const Instance& instance) override;
    Result<VifInfo> allocate_port_for_instance(const RequestContext& context,
                                               const Instance& instance,
                                               const RequestedNetwork& requested) override;
    Result<void> deallocate_port_for_instance(const RequestContext& context,
                                              const Instance& instance,
                                              const std::string& port_id) override;
    Result<std::vector<VifInfo>> network_info(const std::string& instance_uuid) override;
    Result<void> rebind(const RequestContext& context, const Instance& instance,
                        const std::string& host) override;
    Result<void> unbind(const RequestContext& context, const Instance& instance) override;
    Result<void> set_migrating_to(const RequestContext& context, const Instance& instance,
                                  const std::string& source,
                                  const std::string& destination) override;
    Result<void> activate_bindings(const RequestContext& context, const Instance& instance,
                                   const std::string& host) override;
    Result<void> delete_bindings(const RequestContext& context, const Instance& instance,
                                 const std::string& host) override;
    // As nova-conductor does before a live migration.
    void add_binding(const std::string& uuid, const std::string& host);
    std::set<std::string> bindings(const std::string& uuid) const;  // besides the active one
    std::string migrating_to(const std::string& uuid) const;
    size_t port_count() const;
    std::string bound_to(const std::string& uuid) const;  // a server's ports; "": to no host
    // As somebody else does it in the network service.
    void change_ports(const std::string& uuid,
                      const std::function<void(std::vector<VifInfo>& ports)>& change);

private:
    CallLog& log_;
    mutable std::mutex mutex_;
    VifInfo make_port();
    std::map<std::string, std::vector<VifInfo>> ports_;
    std::map<std::string, std::string> bound_;  // by server
    std::map<std::string, std::set<std::string>> bindings_;
    std::map<std::string, std::string> migrating_to_;
    int next_port_ = 1;
};

class FakeVifs final : public VifDriver {
public:
    explicit FakeVifs(CallLog& log) : log_(log) {}
    Result<std::string> plug(const Instance& instance, const VifInfo& vif) override;
    Result<void> unplug(const Instance& instance, const VifInfo& vif) override;
    Result<void> reconcile(const std::vector<Instance>& instances) override;
    std::set<std::string> taps() const;

private:
    CallLog& log_;
    mutable std::mutex mutex_;
    std::map<std::string, std::string> taps_;  // tap -> server
};

// What a fake guest's disk came from and what happened to it since.
struct FakeDisk {
    std::string image_id;
    std::string flavor_id;
    std::string data;  // a test's mark, kept where the real thing keeps it
    bool rescued = false;
    bool saved_state = false;
    std::shared_ptr<FakeDisk> old;  // kept aside during a resize; shared only because it is nested
};

// Guests that outlive a manager, as real ones do.
class FakeDriver : public VirtDriver {
public:
    explicit FakeDriver(CallLog& log) : log_(log) {}
    Result<void> init_host(const std::string& host) override;
    void set_event_listener(std::function<void(const LifecycleEvent&)> listener) override;
    Result<void> spawn(const SpawnRequest& request) override;
    Result<void> destroy(const Instance& instance) override;
    Result<void> power_on(const Instance& instance) override;
    Result<void> power_off(const Instance& instance, int64_t timeout_s) override;
    Result<void> reboot(const Instance& instance, RebootType type) override;
    Result<void> pause(const Instance& instance) override;
    Result<void> unpause(const Instance& instance) override;
    Result<void> suspend(const Instance& instance) override;
    Result<void> resume(const Instance& instance) override;
    Result<std::unique_ptr<DiskSnapshot>> snapshot(const Instance& instance) override;
    Result<void> set_admin_password(const Instance& instance, const std::string& password) override;
    Result<void> quiesce(const Instance& instance) override;
    Result<void> unquiesce(const Instance& instance) override;
    Result<void> rescue(const RescueSpec& spec) override;
    Result<void> unrescue(const Instance& instance, bool power_on) override;
    Result<void> rebuild(const SpawnRequest& request, bool preserve_ephemeral) override;
    Result<void> migrate_disk_and_power_off(const Instance& instance, const Flavor& new_flavor,
                                            int64_t timeout_s) override;
    Result<void> finish_migration(const Instance& instance, bool power_on) override;
    Result<void> confirm_migration(const Instance& instance) override;
    Result<void> finish_revert_migration(const Instance& instance, bool power_on) override;
    Result<void> attach_interface(const Instance& instance, const VifInfo& vif) override;
    Result<void> detach_interface(const Instance& instance, const VifInfo& vif) override;
    Result<void> set_volumes(const Instance& instance,
                             const std::vector<VolumeDisk>& volumes) override;
    Result<std::vector<DiskPlace>> disk_places(const Instance& instance,
                                               const std::vector<VolumeDisk>& volumes) override;
    Result<void> attach_volume(const Instance& instance, const VolumeDisk& volume) override;
    Result<void> detach_volume(const Instance& instance, const std::string& volume_id) override;
    Result<void> reconnect_volume(const Instance& instance, const std::string& volume_id) override;
    Result<void> rename_volume(const Instance& instance, const std::string& volume_id,
                               const std::string& new_volume_id) override;
    Result<InstanceInfo> get_info(const Instance& instance) override;
    Result<std::vector<std::string>> list_instance_uuids() override;
    Result<std::string> get_console_output(const Instance& instance, int64_t tail_lines) override;
    Result<std::string> get_vnc_console(const Instance& instance) override;
    Result<std::string> get_serial_console(const Instance& instance) override;
    Result<Json> get_instance_diagnostics(const Instance& instance) override;
    Result<HostResources> get_available_resource() override;

    std::map<std::string, std::string> volumes(const std::string& uuid) const;  // id -> socket
    std::string admin_password(const std::string& uuid) const;
    bool frozen(const std::string& uuid) const;
    FakeDisk disk(const std::string& uuid) const;
    void write(const std::string& uuid, const std::string& data);          // as the guest would
    void set_guest(const std::string& uuid, int power_state);              // made when absent
    int power(const std::string& uuid) const;                              // 0 when absent
    std::vector<TaggedDevice> told_devices;                                // by the newest spawn
    std::map<std::string, unsigned> cards(const std::string& uuid) const;  // port -> slot
    size_t guest_count() const;
    int64_t last_timeout_s() const;
    void send(const LifecycleEvent& event);

private:
    Result<void> change(const std::string& call, const Instance& instance, int power_state);
    Result<void> change_disk(const std::string& call, const Instance& instance, int power_state,
                             const std::function<void(FakeDisk& disk)>& change);
    CallLog& log_;
    mutable std::mutex mutex_;
    std::map<std::string, int> guests_;
    std::map<std::string, FakeDisk> disks_;
    std::map<std::string, std::map<std::string, unsigned>> cards_;       // that came later
    std::map<std::string, std::map<std::string, std::string>> volumes_;  // server -> id -> socket
    std::map<std::string, std::string> passwords_;
    std::set<std::string> frozen_;
    std::function<void(const LifecycleEvent&)> listener_;
    int64_t last_timeout_s_ = -1;
};

// Images by id, their bytes in memory.
class FakeImages final : public ImageApi {
public:
    explicit FakeImages(CallLog& log) : log_(log) {}
    Result<ImageMeta> show(const RequestContext& context, const std::string& image_id) override;
    Result<void> download(
        const RequestContext& context, const std::string& image_id,
        const std::function<Result<void>(std::span<const std::byte>)>& sink) override;
    Result<ImageMeta> create(const RequestContext& context, const ImageMeta& meta) override;
    Result<void> upload(const RequestContext& context, const std::string& image_id,
                        const ImageMeta& meta, const Source& source) override;
    Result<void> remove(const RequestContext& context, const std::string& image_id) override;
    Result<std::vector<ImageMeta>> list(const RequestContext& context,
                                        const Properties& with) override;
    // Fills in size and hash.
    ImageMeta add(ImageMeta meta, std::string bytes);
    void add_queued(ImageMeta meta) {  // as the control plane makes one
        meta.status = "queued";
        const std::lock_guard lock(mutex_);
        images_.try_emplace(meta.id, meta, "");
    }
    std::string status(const std::string& image_id) const;  // "" when there is none
    std::string data(const std::string& image_id) const;
    size_t count() const;

private:
    CallLog& log_;
    mutable std::mutex mutex_;
    std::map<std::string, std::pair<ImageMeta, std::string>> images_;
    int next_ = 1;
};

}  // namespace kumoi::compute
