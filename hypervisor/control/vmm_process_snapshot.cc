// The part of VmmProcess that saves and restores: --restore, and the methods save, save_status,
// save_cancel and restore.
#include "hypervisor/control/vmm_process.h"

#include <fcntl.h>

#include "hypervisor/sandbox/launcher.h"

namespace kumoi::hypervisor {

// A snapshot's own configuration is believed as a guest.json is: by who names it to us.
Result<void> VmmProcess::start_restored() {
    RestoreRequest request;
    request.path = options_.restore_path;
    request.on_demand = !options_.restore_at_once;
    if (!options_.config_path.empty()) {
        request.config = TRY(load_vm_config(options_.config_path));
    }
    TRY(open_snapshot(request));
    const std::string socket =
        options_.control_socket.empty() ? request.config->control_socket : options_.control_socket;
    TRY(enter_sandbox(*request.config, socket));
    if (!socket.empty()) {
        TRY(listen(socket));
    }
    TRY(restore_machine(std::move(request)));
    return vmm_->start();
}

// What the sandbox will not open any more; the configuration too, when the caller gives none.
Result<void> VmmProcess::open_snapshot(RestoreRequest& request) {
    UniqueFd fd = TRY_CONTEXT(files_.open(request.path, O_RDONLY), "opening the snapshot");
    if (!request.config) {
        request.config = TRY(snapshot_config(TRY(fd.duplicate()), request.path));
    }
    TRY(files_.put(PassedFiles::Kind::File, request.path, std::move(fd)));
    if (request.on_demand && !sandbox_.entered()) {
        open_working_set(request.path, files_);
    }
    return {};
}

Result<void> VmmProcess::restore_machine(RestoreRequest request) {
    return adopt_machine(
        TRY(Vmm::restore(std::move(request), {loop_, clock_, random_, heir_files_}, hooks())));
}

Result<Json> VmmProcess::handle_restore(const Json& params) {
    if (vmm_) {
        return Error::conflict("this process has its machine already");
    }
    const JsonView view(params, "params");
    TRY(view.only({"path", "on_demand", "config", "base_directory", "start"}));
    RestoreRequest request;
    request.path = TRY(view.string("path"));
    request.on_demand = TRY(view.boolean_or("on_demand", true));
    const bool start = TRY(view.boolean_or("start", true));
    const std::string base = TRY(view.string_or("base_directory", "/"));
    if (base.empty() || base.front() != '/') {
        return Error::invalid("params.base_directory: \"{}\" is not an absolute path", base);
    }
    if (view.has("config")) {
        request.config = TRY(parse_vm_config(TRY(view.object("config")).json(), base));
    }
    TRY(open_snapshot(request));
    TRY(enter_sandbox(*request.config, ""));
    TRY(restore_machine(std::move(request)));
    if (start) {
        if (auto started = vmm_->start(); !started) {
            vmm_.reset();
            return std::move(started).error();
        }
    }
    return vmm_->state_json();
}

Result<Json> VmmProcess::handle_save(const ControlRequest& request) {
    Vmm* vmm = TRY(machine());
    if (request.method == "save") {
        return vmm->save(TRY(SaveRequest::parse(request.params)));
    }
    if (request.method == "save_status") {
        return vmm->save_json();
    }
    if (request.method == "save_cancel") {
        TRY(vmm->save_cancel());
        return Json::object();
    }
    return unknown_method(request.method);
}

}  // namespace kumoi::hypervisor
