#include "hypervisor/control/vmm_process.h"

#include <cerrno>
#include <csignal>

#include <sys/signalfd.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/version.h"
#include "hypervisor/block/live/disk_control.h"
#include "hypervisor/sandbox/launcher.h"
#include "hypervisor/sandbox/ring_source.h"
#include "hypervisor/sandbox/spare_connections.h"
#include "hypervisor/sandbox/supervisor.h"

namespace kumoi::hypervisor {

VmmProcess::VmmProcess(VmmOptions options, EventLoop& loop, const Clock& clock, Random& random,
                       PassedFiles& files)
    : options_(std::move(options)),
      loop_(loop),
      clock_(clock),
      random_(random),
      files_(files),
      heir_files_(files),
      sandbox_(options_.sandbox.value_or(SandboxMode::On)) {}

VmmProcess::~VmmProcess() {
    if (!pid_file_.empty()) {
        if (auto removed = remove_file(pid_file_); !removed) {
            log_warn("vmm", "the pid file stays", {{"error", removed.error().text()}});
        }
    }
}

Result<void> VmmProcess::prepare_signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) {
        return Error::internal("blocking SIGTERM and SIGINT failed");
    }
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGHUP, SIG_IGN);
    signal_watch_.reset();  // in a sandbox this is the second time
    signals_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_.is_open()) {
        return Error::from_errno(errno, "making a signal descriptor");
    }
    signal_watch_ = TRY(
        loop_.watch(signals_.get(), EventLoop::kReadable, [this](uint32_t) { take_signals(); }));
    return {};
}

Result<void> VmmProcess::start() {
    for (const int fd : options_.kept_descriptors) {
        heir_files_.heritage()->remember(fmt::format("kept:{}", fd), fd);
    }
    if (!options_.restore_path.empty()) {
        return start_restored();
    }
    if (options_.config_path.empty()) {
        return listen(options_.control_socket);
    }
    VmConfig config = TRY(load_vm_config(options_.config_path));
    const std::string socket =
        options_.control_socket.empty() ? config.control_socket : options_.control_socket;
    if (!options_.upgrade_of.empty()) {
        TRY_CONTEXT(inherit(), "taking over from {}", options_.upgrade_of);
    }
    TRY(enter_sandbox(config, socket));
    if (!socket.empty()) {
        TRY(listen(socket));
    }
    if (options_.incoming) {
        return adopt_machine(
            TRY(Vmm::incoming(std::move(config), {loop_, clock_, random_, heir_files_}, hooks())));
    }
    TRY(create_machine(std::move(config)));
    return vmm_->start();
}

void VmmProcess::extend(const ProcessExtension::Factory& factory) {
    extension_ = factory({.publish = [this](const ControlEvent& event) { publish(event); },
                          .fail = [this] { finish(VmExit::Failed); },
                          .decided = [this] { sandbox_.machine_made(); },
                          .given_away =
                              [this] {
                                  heir_files_.given_away();
                                  pid_file_.clear();  // the newer process's by now
                                  finish(VmExit::Clean);
                              }});
}

Result<void> VmmProcess::enter_sandbox(const VmConfig& config, const std::string& socket) {
    if (!options_.sandbox && config.sandbox.mode && !sandbox_.entered()) {
        sandbox_.set_mode(*config.sandbox.mode);
    }
    if (config.firmware) {
        heir_files_.share_file(config.firmware->nvram);
    }
    if (sandbox_.mode() == SandboxMode::Off) {
        log_warn("sandbox", "off: a guest that breaks out has all rights of this process");
        return {};
    }
    if (sandbox_.entered()) {  // an earlier "create" failed late
        return {};
    }
    SandboxPlan plan;
    plan.config = config.sandbox;
    plan.rules = broker_rules(config.source, config.base_directory);
    if (config.firmware) {  // where none is named it has its usual place
        plan.rules.names.insert({config.firmware->code, config.firmware->nvram});
    }
    for (const VncListen& viewers : config.display.vnc) {
        if (!viewers.host.empty()) {  // the configuration has it with its port
            plan.rules.names.insert(viewers.host);
        }
    }
    const Heritage& heritage = *heir_files_.heritage();
    plan.socket_files = TRY(open_host_files(config, control_ ? "" : socket, files_, &heritage));
    const auto inherited = heritage.inherited_sockets();
    plan.socket_files.insert(plan.socket_files.end(), inherited.begin(), inherited.end());
    if (control_) {
        plan.socket_files.push_back(options_.control_socket);
    }
    plan.pid_file = config.pid_file;
    plan.threads = threads_needed(config);
    if (auto entered = sandbox_.enter(plan); !entered) {
        if (!sandbox_.entered()) {  // else the launcher removes them
            for (const std::string& path : plan.socket_files) {
                if (heritage.inherited("listen:" + path)) {
                    continue;
                }
                files_.forget(PassedFiles::Kind::Listener, path);
                files_.remove_socket(path);
            }
        }
        return entered;
    }
    files_.set_otherwise(&sandbox_.files());
    TRY(prepare_signals());  // a signal descriptor tells of the signals of whoever made the watch
    if (auto rings = prepare_rings(rings_needed(config)); !rings) {
        log_info("sandbox", "no io_uring rings", {{"reason", rings.error().text()}});
    }
    return sandbox_.close();
}

Result<void> VmmProcess::listen(const std::string& path) {
    control_ = TRY(ControlServer::listen(
        loop_, files_, path, [this](const ControlRequest& request) { return handle(request); },
        &files_));
    control_->set_deferred(
        [this](const ControlRequest& request, const ControlServer::Answer& answer) {
            return vmm_ && !finishing_ && !refusal(request.method) &&
                   vmm_->hotplug().handle(request, answer);
        });
    return {};
}

Result<void> VmmProcess::create_machine(VmConfig config) {
    return adopt_machine(
        TRY(Vmm::create(std::move(config), {loop_, clock_, random_, heir_files_}, hooks())));
}

Vmm::Hooks VmmProcess::hooks() {
    return {.event = [this](const ControlEvent& event) { publish(event); },
            .finished = [this](VmExit code) { finish(code); }};
}

Result<void> VmmProcess::adopt_machine(std::unique_ptr<Vmm> vmm) {
    vmm_ = std::move(vmm);
    heir_files_.heritage()->close_rest();
    if (vmm_->state() != VmState::Incoming) {  // its disks are opened when it is decided
        sandbox_.machine_made();
    }
    const std::string pid_file = vmm_->config().pid_file;
    if (!pid_file.empty() && !sandbox_.entered()) {
        if (auto written = write_pid_file(pid_file); !written) {
            vmm_.reset();
            return written;
        }
    }
    if (options_.serial_stdio) {
        stdio_ =
            TRY(StdioConsole::attach(loop_, vmm_->serial(), [this] { finish(VmExit::Clean); }));
    }
    return {};
}

Result<void> VmmProcess::write_pid_file(const std::string& path) {
    TRY_CONTEXT(write_file_atomic(path, fmt::format("{}\n", getpid())), "writing the pid file");
    pid_file_ = path;
    return {};
}

VmExit VmmProcess::run() {
    loop_.run();
    stdio_.reset();
    extension_.reset();
    vmm_.reset();
    return exit_;
}

void VmmProcess::publish(const ControlEvent& event) {
    if (control_) {
        control_->publish(event);
    }
    // The end that SIGTERM asked for need not wait for the grace period once the guest has stopped.
    const bool stopped =
        event.name == "shutdown" || event.name == "crashed" || event.name == "rebooted";
    if (terminating_ && stopped) {
        finish(VmExit::Clean);
    }
}

// The answer that led here still has to leave, so the loop ends after this turn.
void VmmProcess::finish(VmExit code) {
    if (std::exchange(finishing_, true)) {
        return;
    }
    exit_ = code;
    log_info("vmm", "ending", {{"exit_code", static_cast<int>(code)}});
    publish({"exiting", Json::object({{"exit_code", static_cast<int>(code)}})});
    loop_.post([this] {
        if (control_) {
            control_->flush();
        }
        loop_.stop();
    });
}

void VmmProcess::take_signals() {
    signalfd_siginfo info{};
    while (read(signals_.get(), &info, sizeof info) == sizeof info) {
        log_info("vmm", "signal", {{"number", info.ssi_signo}, {"from_pid", info.ssi_pid}});
        const bool forwarded = info.ssi_code == SI_QUEUE && info.ssi_int == kForwardedSignal;
        unsigned& count = forwarded ? forwarded_signals_ : direct_signals_;
        if (++count > 1 || !terminating_) {  // one sent to us and to the launcher counts once
            terminate_gently();
        }
    }
}

// The second signal does not wait any more.
void VmmProcess::terminate_gently() {
    if (terminating_ || !vmm_ || vmm_->state() != VmState::Running || !vmm_->power_button()) {
        finish(VmExit::Clean);
        return;
    }
    terminating_ = true;
    loop_.call_after(options_.grace_ms * kNanosPerMilli, [this] {
        log_warn("vmm", "the guest did not power off in time", {{"grace_ms", options_.grace_ms}});
        finish(VmExit::Clean);
    });
}

Result<Vmm*> VmmProcess::machine() {
    if (!vmm_) {
        return Error::conflict("there is no machine yet").with_hint("call \"create\" first");
    }
    return vmm_.get();
}

Result<Json> VmmProcess::handle(const ControlRequest& request) {
    if (finishing_) {
        return Error::unavailable("this process is ending");
    }
    if (request.method == "hello") {
        return Json::object(
            {{"program", "kumoi-vmm"},
             {"version", kVersion},
             {"protocol", kControlProtocolVersion},
             {"pid", static_cast<int64_t>(sandbox_.entered() ? sandbox_.pid() : getpid())}});
    }
    if (request.method == "create") {
        return handle_create(request.params);
    }
    if (request.method == "restore") {
        return handle_restore(request.params);
    }
    if (request.method == "quit") {
        return handle_quit();
    }
    if (request.method == "state" && !vmm_) {
        return Json::object({{"state", "empty"}});
    }
    if (auto refused = refusal(request.method)) {
        return std::move(*refused);
    }
    if (request.method == "upgrade_descriptors") {
        return handle_upgrade_descriptors(request.params);
    }
    if (vmm_ && extension_) {
        if (auto answer = extension_->handle(*vmm_, request)) {
            return std::move(*answer);
        }
    }
    return handle_machine(request);
}

std::optional<Error> VmmProcess::refusal(const std::string& method) const {
    return vmm_ && extension_ ? extension_->refusal(*vmm_, method) : std::nullopt;
}

Result<Json> VmmProcess::handle_create(const Json& params) {
    if (vmm_) {
        return Error::conflict("this process has its machine already");
    }
    const JsonView view(params, "params");
    TRY(view.only({"config", "base_directory"}));
    const std::string base = TRY(view.string_or("base_directory", "/"));
    if (base.empty() || base.front() != '/') {
        return Error::invalid("params.base_directory: \"{}\" is not an absolute path", base);
    }
    VmConfig config = TRY(parse_vm_config(TRY(view.object("config")).json(), base));
    TRY(enter_sandbox(config, ""));
    TRY(create_machine(std::move(config)));
    return vmm_->state_json();
}

Error unknown_method(const std::string& method) {
    static const std::vector<std::string> kMethods = {"hello",
                                                      "create",
                                                      "start",
                                                      "pause",
                                                      "resume",
                                                      "power_button",
                                                      "reset",
                                                      "nmi",
                                                      "quit",
                                                      "state",
                                                      "dump",
                                                      "statistics",
                                                      "subscribe",
                                                      "save",
                                                      "restore",
                                                      "save_status",
                                                      "save_cancel",
                                                      "set_disk_limits",
                                                      "resize_disk",
                                                      "balloon",
                                                      "announce",
                                                      "add_disk",
                                                      "remove_disk",
                                                      "add_nic",
                                                      "remove_nic",
                                                      "set_vcpus",
                                                      "set_nic_limits",
                                                      "disk_backup",
                                                      "disk_commit",
                                                      "disk_flatten",
                                                      "disk_snapshot",
                                                      "disk_job",
                                                      "disk_job_cancel",
                                                      "bitmap_add",
                                                      "bitmap_list",
                                                      "bitmap_remove",
                                                      "bitmap_clear",
                                                      "set_memory",
                                                      "offer_connection",
                                                      "migrate",
                                                      "migrate_incoming",
                                                      "migrate_connect",
                                                      "migrate_status",
                                                      "migrate_cancel",
                                                      "migrate_force",
                                                      "migrate_verdict",
                                                      "migrate_forecast",
                                                      "upgrade",
                                                      "upgrade_incoming",
                                                      "upgrade_descriptors"};
    const auto near = nearest_name(method, kMethods);
    return Error::unsupported("there is no method \"{}\"", method)
        .with_hint(near ? fmt::format("did you mean \"{}\"?", *near)
                        : std::string("see docs/reference/vmm-control.md"));
}

// Without parameters only the answer: what is wanted, what is so, and what the guest says.
Result<Json> VmmProcess::handle_balloon(const Json& params) {
    constexpr int64_t kMibMax = 16 << 20;
    Vmm* vmm = TRY(machine());
    const JsonView view(params, "params");
    TRY(view.only({"target_mib"}));
    if (view.has("target_mib")) {
        TRY(vmm->set_balloon(static_cast<uint64_t>(TRY(view.integer("target_mib", {0, kMibMax})))));
    }
    return vmm->balloon_json();
}

Result<Json> VmmProcess::handle_offer_connection(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"path"}));
    const std::string path = TRY(view.string("path"));
    UniqueFd connection = TRY(files_.connect(path));
    TRY(offer_connection(path, std::move(connection)));
    return Json::object();
}

Result<Json> VmmProcess::handle_quit() {
    finish(VmExit::Clean);
    return Json::object();
}

Result<Json> VmmProcess::handle_machine(const ControlRequest& request) {
    struct Verb {
        std::string_view name;
        Result<void> (Vmm::*function)();
    };
    static constexpr Verb kVerbs[] = {
        {"start", &Vmm::start},       {"pause", &Vmm::pause},
        {"resume", &Vmm::resume},     {"power_button", &Vmm::power_button},
        {"reset", &Vmm::reset},       {"nmi", &Vmm::nmi},
        {"announce", &Vmm::announce},
    };
    for (const Verb& verb : kVerbs) {
        if (request.method == verb.name) {
            Vmm* vmm = TRY(machine());
            TRY((vmm->*verb.function)());
            return Json::object({{"state", to_string(vmm->state())}});
        }
    }
    if (request.method == "state") {
        return TRY(machine())->state_json();
    }
    if (request.method.starts_with("save")) {
        return handle_save(request);
    }
    if (request.method == "statistics") {
        return TRY(machine())->statistics_json();
    }
    if (request.method == "set_disk_limits") {
        return TRY(machine())->set_disk_limits(request.params);
    }
    if (request.method == "set_nic_limits") {
        return TRY(machine())->set_nic_limits(request.params);
    }
    if (request.method == "set_memory") {
        return TRY(machine())->set_memory(request.params);
    }
    if (request.method == "resize_disk") {
        return TRY(machine())->resize_disk(request.params);
    }
    if (request.method.starts_with("disk_") || request.method.starts_with("bitmap_")) {
        if (auto answer = TRY(machine())->disk_control().handle(request)) {
            return std::move(*answer);
        }
    }
    if (request.method == "offer_connection") {
        return handle_offer_connection(request.params);
    }
    if (request.method == "balloon") {
        return handle_balloon(request.params);
    }
    if (request.method == "dump") {
        return TRY(machine())->dump_json();
    }
    return unknown_method(request.method);
}

}  // namespace kumoi::hypervisor
