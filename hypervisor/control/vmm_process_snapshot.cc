// The part of VmmProcess that saves and restores: --restore, and the methods save, save_status,
// save_cancel and restore.
#include "hypervisor/control/vmm_process.h"

namespace kumoi::hypervisor {

// The machine's own control socket only exists once its configuration has been read out of the
// snapshot, so a failure before that goes to standard error.
Result<void> VmmProcess::start_restored() {
    RestoreRequest request;
    request.path = options_.restore_path;
    request.on_demand = !options_.restore_at_once;
    if (!options_.config_path.empty()) {
        request.config = TRY(load_vm_config(options_.config_path));
    }
    TRY(restore_machine(std::move(request)));
    const std::string socket =
        options_.control_socket.empty() ? vmm_->config().control_socket : options_.control_socket;
    if (!socket.empty()) {
        TRY(listen(socket));
    }
    return vmm_->start();
}

Result<void> VmmProcess::restore_machine(RestoreRequest request) {
    return adopt_machine(
        TRY(Vmm::restore(std::move(request), {loop_, clock_, random_, files_}, hooks())));
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
