// VmmProcess: a kumoi-vmm process around its one machine: control socket, signals, pid file, and
// when to end. The machine comes from --config at once, or later from the control method "create".
//
// Loop thread only. SIGTERM and SIGINT press the power button and end the process after a grace
// period (at once when no guest would answer); SIGHUP and SIGPIPE are ignored: the parent may go.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/fd.h"
#include "base/random.h"
#include "hypervisor/console/stdio_console.h"
#include "hypervisor/control/control_server.h"
#include "hypervisor/control/process_extension.h"
#include "hypervisor/sandbox/sandbox.h"
#include "hypervisor/upgrade/heir_files.h"
#include "hypervisor/vmm.h"

namespace kumoi::hypervisor {

struct VmmOptions {
    std::string config_path;       // empty: wait for "create"
    std::string control_socket;    // overrides the configuration's
    std::string restore_path;      // a snapshot to go on from, with its own configuration or ours
    bool restore_at_once = false;  // all memory before the first instruction
    bool incoming = false;         // a machine for a guest that comes from elsewhere
    std::string inherit_lock;      // a file whose lock the older process keeps, and then we
    std::string upgrade_of;        // control socket of the older process whose guest comes here
    bool serial_stdio = false;
    int64_t grace_ms = 30'000;           // from SIGTERM to the end
    std::optional<SandboxMode> sandbox;  // overrides the configuration's
    std::vector<int> kept_descriptors;   // of those open before the program started
};

class VmmProcess {
public:
    VmmProcess(VmmOptions options, EventLoop& loop, const Clock& clock, Random& random,
               PassedFiles& files);
    ~VmmProcess();

    void extend(const ProcessExtension::Factory& factory);
    // Blocks the signals; before any thread is made.
    Result<void> prepare_signals();
    Result<void> start();
    // Runs until the machine or its operator ends it.
    VmExit run();

private:
    // Closes this process in, with what the configuration names already open. The caller goes on
    // in a new process.
    Result<void> enter_sandbox(const VmConfig& config, const std::string& socket);
    // Takes what a machine is made of from an older process, which runs on (--upgrade-of).
    Result<void> inherit();
    Result<void> inherit_lock(std::vector<Heritage::Item>& items);
    Result<void> create_machine(VmConfig config);
    Result<void> adopt_machine(std::unique_ptr<Vmm> vmm);
    Result<void> start_restored();
    Result<void> open_snapshot(RestoreRequest& request);
    Result<void> restore_machine(RestoreRequest request);
    Vmm::Hooks hooks();
    Result<void> listen(const std::string& path);
    Result<Json> handle(const ControlRequest& request);
    Result<Json> handle_machine(const ControlRequest& request);
    std::optional<Error> refusal(const std::string& method) const;
    Result<Json> handle_create(const Json& params);
    Result<Json> handle_restore(const Json& params);
    Result<Json> handle_save(const ControlRequest& request);
    Result<Json> handle_balloon(const Json& params);
    Result<Json> handle_offer_connection(const Json& params);
    Result<Json> handle_upgrade_descriptors(const Json& params);
    Result<Json> handle_quit();
    Result<Vmm*> machine();
    void publish(const ControlEvent& event);
    void finish(VmExit code);
    void take_signals();
    void terminate_gently();
    Result<void> write_pid_file(const std::string& path);

    VmmOptions options_;
    EventLoop& loop_;
    const Clock& clock_;
    Random& random_;
    PassedFiles& files_;
    HeirFiles heir_files_;  // the machine's way to files_
    UniqueFd inherited_lock_;
    Sandbox sandbox_;
    UniqueFd signals_;
    EventLoop::Watch signal_watch_;
    std::string pid_file_;
    bool finishing_ = false;
    bool terminating_ = false;
    unsigned direct_signals_ = 0;
    unsigned forwarded_signals_ = 0;  // by the launcher
    VmExit exit_ = VmExit::Clean;
    std::unique_ptr<ControlServer> control_;
    std::unique_ptr<Vmm> vmm_;
    std::unique_ptr<ProcessExtension> extension_;  // before the machine goes
    std::unique_ptr<StdioConsole> stdio_;          // the same
};

// The answer to a method that does not exist; names the nearest one.
Error unknown_method(const std::string& method);

}  // namespace kumoi::hypervisor
