#include "compute/volumes/volume_daemons.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.h"
#include "base/log.h"
#include "base/uuid.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kLookNs = 60 * kNanosPerSecond;  // without any news
constexpr int64_t kBackoffMaxNs = 30 * kNanosPerSecond;
constexpr int kBackoffStepsMax = 5;

int64_t backoff_ns(int failures) {
    return std::min<int64_t>(kBackoffMaxNs,
                             kNanosPerSecond << std::min(failures - 1, kBackoffStepsMax));
}

Error not_connected(const VolumeHost::Connected& key) {
    return Error::not_found("Volume {} of server {} is not connected to this host", key.second,
                            key.first)
        .with_fault("DiskNotFound");
}

}  // namespace

Json connector_properties(const std::string& host, const std::string& host_ip,
                          const std::string& initiator) {
    utsname machine{};
    ::uname(&machine);
    return Json::object({{"platform", std::string(machine.machine)},
                         {"os_type", "linux"},
                         {"ip", host_ip},
                         {"host", host},
                         {"multipath", false},
                         {"enforce_multipath", false},
                         {"initiator", initiator},
                         {"do_local_attach", false}});
}

Result<std::string> host_initiator(const std::string& folder, Random& random) {
    constexpr std::string_view kName = "InitiatorName=";
    constexpr size_t kFileMax = 4096;
    const std::string own = folder + "/initiatorname.iscsi";
    for (const std::string& path : {std::string("/etc/iscsi/initiatorname.iscsi"), own}) {
        const auto text = read_file(path, kFileMax);
        for (size_t begin = 0; text.ok() && begin < text->size();) {
            const size_t end = std::min(text->find('\n', begin), text->size());
            const std::string_view line(text->data() + begin, end - begin);
            if (line.starts_with(kName) && line.size() > kName.size() + 4) {
                return std::string(line.substr(kName.size()));
            }
            begin = end + 1;
        }
    }
    const std::string made = "iqn.2026-11.org.kumoi:" + Uuid::generate(random).hex().substr(0, 12);
    TRY(write_file_atomic(own, std::string(kName) + made + "\n", 0600));
    return made;
}

Result<std::unique_ptr<VolumeDaemons>> VolumeDaemons::create(VolumeDaemonsOptions options,
                                                             Random& random) {
    TRY(make_directories(options.folder, 0711));
    std::string initiator = TRY(host_initiator(options.folder, random));
    options.daemon.source.initiator = initiator;
    std::unique_ptr<VolumeDaemons> made(
        new VolumeDaemons(std::move(options), std::move(initiator), random));
    made->wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!made->wake_.is_open()) {
        return Error::from_errno(errno, "making an eventfd");
    }
    TRY(made->load());
    return made;
}

VolumeDaemons::~VolumeDaemons() {
    stop();
}

void VolumeDaemons::stop() {
    stopping_ = true;
    wake();
    if (watcher_.joinable()) {
        watcher_.join();
    }
}

// A folder without a record is one whose making or removing was cut off.
Result<void> VolumeDaemons::load() {
    for (const std::string& name : TRY(list_directory(options_.folder))) {
        const std::string folder = options_.folder + "/" + name;
        if (name == "initiatorname.iscsi") {
            continue;
        }
        auto record = StorageDaemon::read_record(folder);
        if (!record.ok()) {
            log_warn("volumes", "a folder of a back end cannot be read and is removed",
                     {{"path", folder}, {"why", record.error().text()}});
            TRY(remove_tree(folder));
            continue;
        }
        StorageDaemon daemon(options_.daemon, folder);
        const auto adopted = daemon.adopt(std::move(*record));
        const Connected key{daemon.record().instance_uuid, daemon.record().volume_id};
        auto entry = std::make_shared<Entry>(std::move(daemon));
        if (!adopted.ok()) {  // it does not serve: the watcher starts it anew
            log_warn("volumes", "a back end does not answer",
                     {{"volume", key.second}, {"why", adopted.error().text()}});
            (void)entry->daemon.stop();
        }
        entries_[key] = std::move(entry);
    }
    return {};
}

void VolumeDaemons::start(Restarted restarted) {
    restarted_ = std::move(restarted);
    watcher_ = std::thread([this] { watch(); });
}

Result<Json> VolumeDaemons::connector() {
    return connector_properties(options_.host, options_.host_ip, initiator_);
}

std::shared_ptr<VolumeDaemons::Entry> VolumeDaemons::find(const Connected& key) const {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(key);
    return found == entries_.end() ? nullptr : found->second;
}

VolumeDaemons::Entries VolumeDaemons::entries() const {
    const std::lock_guard lock(mutex_);
    return entries_;
}

void VolumeDaemons::forget(const Connected& key) {
    const std::lock_guard lock(mutex_);
    entries_.erase(key);
}

void VolumeDaemons::wake() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

std::set<VolumeHost::Connected> VolumeDaemons::connected() {
    std::set<Connected> keys;
    for (const auto& [key, entry] : entries()) {
        keys.insert(key);
    }
    return keys;
}

Result<std::string> VolumeDaemons::connect(const std::string& instance_uuid,
                                           const std::string& volume_id,
                                           const Json& connection_info) {
    const Connected key{instance_uuid, volume_id};
    if (const auto there = find(key)) {
        const std::lock_guard lock(there->mutex);
        if (!there->gone && there->daemon.record().connection_info == connection_info) {
            if (!there->daemon.is_alive()) {
                TRY(there->daemon.start());
                wake();
            }
            return there->daemon.socket();
        }
    }
    TRY(disconnect(instance_uuid, volume_id));
    const std::string name =
        instance_uuid.substr(0, 8) + "-" + Uuid::generate(random_).hex().substr(0, 12);
    auto entry =
        std::make_shared<Entry>(StorageDaemon(options_.daemon, options_.folder + "/" + name));
    const std::lock_guard lock(entry->mutex);
    TRY(entry->daemon.create({instance_uuid, volume_id, connection_info}));
    auto started = entry->daemon.start();
    if (!started.ok()) {
        entry->gone = true;
        (void)entry->daemon.remove();
        return std::move(started).error();
    }
    {
        const std::lock_guard all(mutex_);
        entries_[key] = entry;
    }
    wake();
    return entry->daemon.socket();
}

Result<void> VolumeDaemons::disconnect(const std::string& instance_uuid,
                                       const std::string& volume_id) {
    const Connected key{instance_uuid, volume_id};
    const auto entry = find(key);
    if (!entry) {
        return {};
    }
    const std::lock_guard lock(entry->mutex);
    TRY_CONTEXT(entry->daemon.remove(), "ending the back end of volume {}", volume_id);
    entry->gone = true;
    forget(key);
    return {};
}

Result<void> VolumeDaemons::extend(const std::string& instance_uuid, const std::string& volume_id,
                                   uint64_t size) {
    const Connected key{instance_uuid, volume_id};
    const auto entry = find(key);
    if (!entry) {
        return not_connected(key);
    }
    const std::lock_guard lock(entry->mutex);
    TRY(entry->daemon.resize(size));
    if (restarted_) {  // it lost its connections
        restarted_(instance_uuid, volume_id);
    }
    return {};
}

Result<void> VolumeDaemons::swap(const std::string& instance_uuid, const std::string& old_volume_id,
                                 const std::string& new_volume_id, const Json& connection_info) {
    const Connected key{instance_uuid, old_volume_id};
    const auto entry = find(key);
    if (!entry) {
        return not_connected(key);
    }
    const std::lock_guard lock(entry->mutex);
    TRY(entry->daemon.swap(new_volume_id, connection_info));
    const std::lock_guard all(mutex_);
    entries_.erase(key);
    entries_[{instance_uuid, new_volume_id}] = entry;
    return {};
}

Result<void> VolumeDaemons::rename(const std::string& instance_uuid, const std::string& volume_id,
                                   const std::string& new_volume_id) {
    const Connected key{instance_uuid, volume_id};
    const auto entry = find(key);
    if (!entry) {
        return not_connected(key);
    }
    const std::lock_guard lock(entry->mutex);
    TRY(entry->daemon.rename(new_volume_id));
    const std::lock_guard all(mutex_);
    entries_.erase(key);
    entries_[{instance_uuid, new_volume_id}] = entry;
    return {};
}

void VolumeDaemons::watch() {
    while (!stopping_) {
        const Entries all = entries();
        int64_t next_ns = kLookNs;
        for (const auto& [key, entry] : all) {
            const std::unique_lock lock(entry->mutex, std::try_to_lock);
            if (lock.owns_lock() && !entry->gone && !stopping_) {
                next_ns = std::min(next_ns, look_after(key, *entry, clock_.monotonic_ns()));
            } else {
                next_ns = std::min<int64_t>(next_ns, kNanosPerSecond);
            }
        }
        sleep(all, next_ns);
    }
}

int64_t VolumeDaemons::look_after(const Connected& key, Entry& entry, int64_t now_ns) {
    if (entry.daemon.is_alive()) {
        return kLookNs;
    }
    if (now_ns < entry.next_start_ns) {
        return entry.next_start_ns - now_ns;
    }
    log_warn("volumes", "the back end of a volume has ended and is started again",
             {{"server", key.first}, {"volume", key.second}});
    const auto started = entry.daemon.start();
    if (!started.ok()) {
        ++entry.failures;
        entry.next_start_ns = clock_.monotonic_ns() + backoff_ns(entry.failures);
        log_error("volumes", "it does not start", {{"why", started.error().text()}});
        return backoff_ns(entry.failures);
    }
    entry.failures = 0;
    restarted_(key.first, key.second);
    return kLookNs;
}

void VolumeDaemons::sleep(const Entries& all, int64_t nanoseconds) {
    std::vector<UniqueFd> processes;
    std::vector<pollfd> watched = {{wake_.get(), POLLIN, 0}};
    for (const auto& [key, entry] : all) {
        const std::unique_lock lock(entry->mutex, std::try_to_lock);
        if (lock.owns_lock() && !entry->gone) {
            processes.push_back(entry->daemon.open_process());
            if (processes.back().is_open()) {
                watched.push_back({processes.back().get(), POLLIN, 0});
            }
        }
    }
    const auto timeout_ms = static_cast<int>(nanoseconds / kNanosPerMilli) + 1;
    ::poll(watched.data(), watched.size(), timeout_ms);
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t taken = ::read(wake_.get(), &count, sizeof count);
}

Result<Json> NoVolumeDaemons::connector() {
    return connector_properties(host_, host_ip_, "iqn.2026-11.org.kumoi:simulated");
}

Result<std::string> NoVolumeDaemons::connect(const std::string& instance_uuid,
                                             const std::string& volume_id,
                                             const Json& connection_info) {
    TRY(parse_connection_info(connection_info, {}));
    const std::lock_guard lock(mutex_);
    connected_.insert({instance_uuid, volume_id});
    return std::string();
}

Result<void> NoVolumeDaemons::disconnect(const std::string& instance_uuid,
                                         const std::string& volume_id) {
    const std::lock_guard lock(mutex_);
    connected_.erase({instance_uuid, volume_id});
    return {};
}

Result<void> NoVolumeDaemons::extend(const std::string& /*instance_uuid*/,
                                     const std::string& /*volume_id*/, uint64_t /*size*/) {
    return {};
}

Result<void> NoVolumeDaemons::swap(const std::string& instance_uuid,
                                   const std::string& old_volume_id,
                                   const std::string& new_volume_id,
                                   const Json& /*connection_info*/) {
    return rename(instance_uuid, old_volume_id, new_volume_id);
}

Result<void> NoVolumeDaemons::rename(const std::string& instance_uuid, const std::string& volume_id,
                                     const std::string& new_volume_id) {
    const std::lock_guard lock(mutex_);
    connected_.erase({instance_uuid, volume_id});
    connected_.insert({instance_uuid, new_volume_id});
    return {};
}

std::set<VolumeHost::Connected> NoVolumeDaemons::connected() {
    const std::lock_guard lock(mutex_);
    return connected_;
}

}  // namespace kumoi::compute
