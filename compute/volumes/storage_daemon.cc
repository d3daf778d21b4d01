#include "compute/volumes/storage_daemon.h"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/subprocess.h"

namespace kumoi::compute {
namespace {

constexpr int kPollStepMs = 10;
constexpr int kMonitorAttempts = 50;
constexpr int64_t kKillTimeoutMs = 10'000;
constexpr size_t kRecordMax = 256 << 10;
constexpr size_t kKeyringMax = 64 << 10;
constexpr size_t kNodeNameMax = 31;
constexpr size_t kLogTail = 400;
constexpr uint32_t kUidCount = 65'536;
constexpr char kExport[] = "guest";
constexpr char kJob[] = "swap";
constexpr int kCopyStepMs = 200;

const SystemClock& system_clock() {
    static const SystemClock clock;  // no state
    return clock;
}

void pass_time(int milliseconds) {
    ::poll(nullptr, 0, milliseconds);
}

Error not_served(Error error, const VolumeSource& source) {
    std::string fault = error.fault.empty() ? "VolumeAttachFailed" : error.fault;
    return std::move(error)
        .with_context(fmt::format("reaching the {} volume at {}", source.type, source.place))
        .with_fault(std::move(fault));
}

std::string secret_object(const std::string& name, const std::string& id) {
    return name + "-" + id;
}

}  // namespace

std::vector<std::string> storage_daemon_argv(const StorageDaemonOptions& options, uint32_t uid,
                                             bool low_port, const std::string& qmp_socket) {
    std::vector<std::string> argv;
    if (uid != 0) {
        const std::string id = std::to_string(uid);
        argv = {"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--no-new-privs"};
        if (low_port) {
            argv.insert(argv.end(),
                        {"--inh-caps", "-all,+net_bind_service", "--ambient-caps",
                         "-all,+net_bind_service", "--bounding-set", "-all,+net_bind_service"});
        } else {
            argv.insert(argv.end(), {"--inh-caps", "-all", "--bounding-set", "-all"});
        }
    }
    argv.insert(argv.end(), {options.program, "--chardev",
                             "socket,id=orders,path=" + qmp_socket + ",server=on,wait=off",
                             "--monitor", "chardev=orders"});
    return argv;
}

std::string node_name(const std::string& volume_id) {
    std::string name = "v";
    for (const char character : volume_id) {
        const bool plain = (character >= '0' && character <= '9') ||
                           (character >= 'a' && character <= 'z') ||
                           (character >= 'A' && character <= 'Z');
        if (plain && name.size() < kNodeNameMax) {
            name += character;
        }
    }
    return name;
}

std::vector<std::pair<std::string, Json>> open_commands(const VolumeSource& source,
                                                        const std::string& name) {
    std::vector<std::pair<std::string, Json>> commands;
    Json node = source.node;
    for (const auto& [id, content] : source.secrets) {
        const std::string object = secret_object(name, id);
        Json secret = Json::object({{"qom-type", "secret"}, {"id", object}, {"data", content}});
        if (node.string_or("key-secret") == id) {  // Ceph's keys are written so
            secret.set("format", "base64");
        }
        commands.emplace_back("object-add", std::move(secret));
        for (const char* member : {"password-secret", "key-secret"}) {
            if (node.string_or(member) == id) {
                node.set(member, object);
            }
        }
    }
    node.set("node-name", name);
    if (source.read_only) {
        node.set("read-only", true);
    }
    commands.emplace_back("blockdev-add", std::move(node));
    return commands;
}

Result<StorageDaemon::Record> StorageDaemon::read_record(const std::string& folder) {
    const Json json = TRY(Json::parse(TRY(read_file(folder + "/record.json", kRecordMax))));
    const JsonView view(json, "record.json");
    Record record;
    record.instance_uuid = TRY(view.string("server"));
    record.volume_id = TRY(view.string("volume"));
    record.connection_info = TRY(view.object("connection_info")).json();
    record.node = json.string_or("node");
    record.pid = static_cast<pid_t>(json.integer_or("pid"));
    record.start_ticks = static_cast<uint64_t>(json.integer_or("start_ticks"));
    record.next_volume_id = json.string_or("next_volume");
    if (const Json* next = json.find("next_connection_info")) {
        record.next_connection_info = *next;
    }
    return record;
}

Result<void> StorageDaemon::save() const {
    Json json = Json::object({{"server", record_.instance_uuid},
                              {"volume", record_.volume_id},
                              {"connection_info", record_.connection_info},
                              {"node", record_.node},
                              {"pid", record_.pid},
                              {"start_ticks", record_.start_ticks}});
    if (!record_.next_volume_id.empty()) {
        json.set("next_volume", record_.next_volume_id);
        json.set("next_connection_info", record_.next_connection_info);
    }
    return write_file_atomic(folder_ + "/record.json", json.dump_pretty(), 0600);
}

Result<void> StorageDaemon::create(Record record) {
    record_ = std::move(record);
    TRY(make_directories(folder_, 0711));
    return save();
}

Result<void> StorageDaemon::adopt(Record record) {
    record_ = std::move(record);
    return is_alive() ? settle_swap() : Result<void>();
}

uint32_t StorageDaemon::uid() const {
    if (options_.uid_first == 0 || ::geteuid() != 0) {
        return 0;
    }
    const std::string digest = digest_hex(DigestKind::Sha256, folder_);
    return options_.uid_first +
           static_cast<uint32_t>(std::strtoul(digest.substr(0, 8).c_str(), nullptr, 16)) %
               kUidCount;
}

Result<void> StorageDaemon::make_run_folder() const {
    const std::string run = folder_ + "/run";
    TRY(remove_tree(run));
    TRY(make_directories(run, 0700));
    const uint32_t user = uid();
    if (user != 0 && ::chown(run.c_str(), user, user) != 0) {
        return Error::from_errno(errno, "giving " + run + " to its daemon");
    }
    return {};
}

bool StorageDaemon::is_alive() const {
    if (record_.pid <= 1 || !process_alive(record_.pid)) {
        return false;
    }
    const auto ticks = process_start_ticks(record_.pid);
    return ticks.ok() && *ticks == record_.start_ticks;
}

UniqueFd StorageDaemon::open_process() const {
    UniqueFd pid_fd(static_cast<int>(::syscall(SYS_pidfd_open, record_.pid, 0)));
    return is_alive() ? std::move(pid_fd) : UniqueFd();
}

Result<void> StorageDaemon::kill() {
    const UniqueFd pid_fd = open_process();
    if (!pid_fd.is_open()) {
        ::waitpid(record_.pid, nullptr, WNOHANG);  // ours until we are restarted
        return {};
    }
    ::syscall(SYS_pidfd_send_signal, pid_fd.get(), SIGTERM, nullptr, 0);
    pollfd ended{pid_fd.get(), POLLIN, 0};
    if (::poll(&ended, 1, 2'000) <= 0) {
        ::syscall(SYS_pidfd_send_signal, pid_fd.get(), SIGKILL, nullptr, 0);
        if (::poll(&ended, 1, static_cast<int>(kKillTimeoutMs)) <= 0) {
            return Error::timeout("qemu-storage-daemon {} does not end even when killed",
                                  record_.pid);
        }
    }
    ::waitpid(record_.pid, nullptr, WNOHANG);
    return {};
}

Result<void> StorageDaemon::start() {
    TRY(kill());
    VolumeSource source = TRY(parse_connection_info(record_.connection_info, options_.source));
    TRY(make_run_folder());
    record_.next_volume_id.clear();
    record_.node = node_name(record_.volume_id);
    record_.pid = TRY(spawn(source));
    const auto ticks = process_start_ticks(record_.pid);
    record_.start_ticks = ticks.ok() ? *ticks : 0;
    auto started = [&]() -> Result<void> {
        TRY(save());
        QmpClient qmp = TRY(wait_monitor());
        return serve(qmp, source);
    }();
    if (!started.ok()) {
        if (auto killed = kill(); !killed.ok()) {
            log_warn("volumes", "a back end that serves nothing goes on",
                     {{"why", killed.error().text()}});
        }
        return not_served(std::move(started).error(), source);
    }
    return {};
}

Result<pid_t> StorageDaemon::spawn(const VolumeSource& source) const {
    DaemonOptions daemon;
    daemon.log_path = folder_ + "/log";
    daemon.directory = "/";
    const uint32_t user = source.wants_host_files() ? 0 : uid();
    return spawn_daemon(storage_daemon_argv(options_, user, source.wants_low_port(), qmp_socket()),
                        daemon);
}

// The monitor serves one after the other: who comes while the last one leaves may be turned away.
Result<QmpClient> StorageDaemon::wait_monitor() const {
    const int64_t deadline =
        system_clock().monotonic_ns() + options_.start_timeout_ms * kNanosPerMilli;
    while (system_clock().monotonic_ns() < deadline) {
        auto qmp = QmpClient::connect(qmp_socket(), options_.call_timeout_ms);
        if (qmp.ok()) {
            return qmp;
        }
        if (!process_alive(record_.pid)) {
            return Error::unavailable("qemu-storage-daemon ended while it started: {}", log_tail());
        }
        pass_time(kPollStepMs);
    }
    return Error::timeout("qemu-storage-daemon did not start within {} ms: {}",
                          options_.start_timeout_ms, log_tail());
}

Result<QmpClient> StorageDaemon::monitor() const {
    auto qmp = QmpClient::connect(qmp_socket(), options_.call_timeout_ms);
    for (int attempt = 0; !qmp.ok() && is_alive() && attempt < kMonitorAttempts; ++attempt) {
        pass_time(kPollStepMs);
        qmp = QmpClient::connect(qmp_socket(), options_.call_timeout_ms);
    }
    return qmp;
}

Result<void> StorageDaemon::open_node(QmpClient& qmp, VolumeSource source,
                                      const std::string& name) const {
    if (!source.key_file.empty()) {
        const std::string keyring = TRY_CONTEXT(read_file(source.key_file, kKeyringMax),
                                                "looking for the key of Ceph's user");
        std::string key = TRY(key_in_keyring(keyring));
        source.secrets.emplace_back(source.node.string_or("key-secret"), std::move(key));
    }
    for (auto& [command, arguments] : open_commands(source, name)) {
        TRY(qmp.call(command, std::move(arguments), options_.open_timeout_ms));
    }
    return {};
}

Result<void> StorageDaemon::serve(QmpClient& qmp, const VolumeSource& source) const {
    TRY(open_node(qmp, source, record_.node));
    return add_export(qmp, !source.read_only);
}

Result<void> StorageDaemon::add_export(QmpClient& qmp, bool writable) const {
    TRY(qmp.call("block-export-add",
                 Json::object({{"type", "vhost-user-blk"},
                               {"id", kExport},
                               {"node-name", record_.node},
                               {"writable", writable},
                               {"addr", Json::object({{"type", "unix"}, {"path", socket()}})}}),
                 options_.call_timeout_ms));
    return {};
}

Result<void> StorageDaemon::end_export(QmpClient& qmp) const {
    TRY(qmp.call("block-export-del", Json::object({{"id", kExport}, {"mode", "hard"}}),
                 options_.call_timeout_ms));
    const int64_t deadline =
        system_clock().monotonic_ns() + options_.call_timeout_ms * kNanosPerMilli;
    while (!TRY(exported_node(qmp)).empty()) {
        if (system_clock().monotonic_ns() >= deadline) {
            return Error::timeout("qemu-storage-daemon does not end its export");
        }
        pass_time(kPollStepMs);
    }
    return {};
}

Result<void> StorageDaemon::remove() {
    TRY(kill());
    return remove_tree(folder_);
}

Result<void> StorageDaemon::resize(uint64_t size) {
    const VolumeSource source =
        TRY(parse_connection_info(record_.connection_info, options_.source));
    QmpClient qmp = TRY(monitor());
    TRY(qmp.call("block_resize", Json::object({{"node-name", record_.node}, {"size", size}}),
                 options_.call_timeout_ms));
    TRY(end_export(qmp));
    return add_export(qmp, !source.read_only);
}

// "": it serves nothing.
Result<std::string> StorageDaemon::exported_node(QmpClient& qmp) const {
    const Json exports =
        TRY(qmp.call("query-block-exports", Json::object(), options_.call_timeout_ms));
    for (size_t i = 0; exports.is_array() && i < exports.size(); ++i) {
        if (exports.as_array()[i].string_or("id") == kExport) {
            return exports.as_array()[i].string_or("node-name");
        }
    }
    return std::string();
}

Result<void> StorageDaemon::swap(const std::string& volume_id, const Json& connection_info) {
    VolumeSource next = TRY(parse_connection_info(connection_info, options_.source));
    if (next.wants_host_files() && uid() != 0) {
        return Error::unsupported("A volume that is a file of this host cannot be swapped in");
    }
    record_.next_volume_id = volume_id;
    record_.next_connection_info = connection_info;
    TRY(save());
    auto copied = [&]() -> Result<void> {
        QmpClient qmp = TRY(monitor());
        const std::string from = TRY(exported_node(qmp));
        TRY(open_node(qmp, next, next_node()));
        return mirror(qmp, from, next_node());
    }();
    auto settled = settle_swap();
    if (settled.ok() && record_.volume_id == volume_id) {
        return {};
    }
    return copied.ok() ? settled : copied;
}

Result<void> StorageDaemon::mirror(QmpClient& qmp, const std::string& from,
                                   const std::string& to) const {
    const int64_t deadline =
        system_clock().monotonic_ns() + options_.copy_timeout_ms * kNanosPerMilli;
    TRY(qmp.call("blockdev-mirror",
                 Json::object({{"job-id", kJob},
                               {"device", from},
                               {"target", to},
                               {"sync", "full"},
                               {"on-target-error", "report"}}),
                 options_.call_timeout_ms));
    bool completing = false;
    while (system_clock().monotonic_ns() < deadline) {
        const Json jobs = TRY(qmp.call("query-jobs", Json::object(), options_.call_timeout_ms));
        if (!jobs.is_array() || jobs.size() == 0) {
            return completing ? Result<void>()
                              : Result<void>(Error::io("the copy ended before it was whole"));
        }
        const Json& job = jobs.as_array().front();
        const std::string reason = job.string_or("error");
        if (!reason.empty()) {
            return Error::io("the copy failed: {}", reason);
        }
        if (job.string_or("status") == "ready" && !completing) {
            TRY(qmp.call("job-complete", Json::object({{"id", kJob}}), options_.call_timeout_ms));
            completing = true;
        }
        pass_time(completing ? kPollStepMs : kCopyStepMs);
    }
    return Error::timeout("the copy was not whole after {} s", options_.copy_timeout_ms / 1000);
}

// However a copy ended: what is exported now says which volume it is; the other one is closed.
Result<void> StorageDaemon::settle_swap() {
    QmpClient qmp = TRY(monitor());
    const std::string served = TRY(exported_node(qmp));
    if (served.empty()) {
        return Error::unavailable("qemu-storage-daemon serves nothing");
    }
    if (record_.next_volume_id.empty()) {
        return {};
    }
    const Json cancelled = Json::object({{"id", kJob}});
    for (int attempt = 0; attempt < 500; ++attempt) {
        const Json jobs = TRY(qmp.call("query-jobs", Json::object(), options_.call_timeout_ms));
        if (!jobs.is_array() || jobs.size() == 0) {
            break;
        }
        if (attempt == 0) {
            (void)qmp.call("job-cancel", cancelled, options_.call_timeout_ms);
        }
        pass_time(kPollStepMs);
    }
    const bool taken = TRY(exported_node(qmp)) == next_node();
    const std::string closed = taken ? record_.node : next_node();
    (void)qmp.call("blockdev-del", Json::object({{"node-name", closed}}), options_.call_timeout_ms);
    for (const char* id : {"chap", "ceph"}) {
        (void)qmp.call("object-del", Json::object({{"id", secret_object(closed, id)}}),
                       options_.call_timeout_ms);
    }
    if (taken) {
        return take_next();
    }
    record_.next_volume_id.clear();
    return save();
}

// Never the one in use, even when a volume has another's name after a migration.
std::string StorageDaemon::next_node() const {
    const std::string name = node_name(record_.next_volume_id);
    return name == record_.node ? name.substr(0, kNodeNameMax - 1) + "x" : name;
}

Result<void> StorageDaemon::take_next() {
    record_.node = next_node();
    record_.volume_id = std::move(record_.next_volume_id);
    record_.connection_info = std::move(record_.next_connection_info);
    record_.next_volume_id.clear();
    return save();
}

Result<void> StorageDaemon::rename(const std::string& volume_id) {
    record_.volume_id = volume_id;
    return save();
}

std::string StorageDaemon::log_tail() const {
    const auto text = read_file(folder_ + "/log");
    if (!text.ok() || text->empty()) {
        return "it left no log";
    }
    return text->size() > kLogTail ? "..." + text->substr(text->size() - kLogTail) : *text;
}

}  // namespace kumoi::compute
