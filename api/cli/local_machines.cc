#include "api/cli/local_machines.h"

#include "base/file.h"
#include "base/uuid.h"
#include "hypervisor/control/control_client.h"

namespace kumoi::cli {
namespace {

constexpr int64_t kConnectMs = 1000;
constexpr int64_t kAnswerMs = 3000;
constexpr size_t kLogBytesMax = 64u << 20;

std::string file_of(const Json& machine, const char* name) {
    return machine.string_or("path") + "/" + name;
}

std::string first_address_of(const Json& config) {
    const Json* vifs = config.find("vifs");
    if (vifs == nullptr || !vifs->is_array()) {
        return "";
    }
    for (const Json& vif : vifs->as_array()) {
        const Json* addresses = vif.find("fixed_ips");
        if (addresses != nullptr && addresses->is_array() && addresses->size() > 0) {
            return addresses->as_array().front().string_or("address");
        }
    }
    return "";
}

void add_config(const std::string& path, Json& machine) {
    const auto text = read_file(path + "/config.json");
    const auto config = text.ok() ? Json::parse(text.value()) : Result<Json>(text.error());
    if (!config.ok()) {
        machine.set("problem", "config.json: " + config.error().message);
        return;
    }
    machine.set("name", config.value().string_or("name"));
    machine.set("project_id", config.value().string_or("project_id"));
    machine.set("address", first_address_of(config.value()));
    if (const Json* flavor = config.value().find("flavor")) {
        machine.set("vcpus", flavor->integer_or("vcpus"));
        machine.set("memory_mb", flavor->integer_or("memory_mb"));
    }
}

void add_state(Json& machine) {
    auto client = hypervisor::ControlClient::connect(file_of(machine, "control.sock"), kConnectMs);
    if (!client.ok()) {
        const ErrorCode code = client.error().code;
        const bool absent = code == ErrorCode::NotFound || code == ErrorCode::Unavailable;
        machine.set("state", absent ? "stopped" : "unknown");
        if (!absent) {
            machine.set("problem", client.error().message);
        }
        return;
    }
    const auto state = client.value().call("state", Json::object(), kAnswerMs);
    machine.set("state", state.ok() ? state.value().string_or("state", "unknown") : "unknown");
    if (!state.ok()) {
        machine.set("problem", state.error().message);
    } else if (const Json* crash = state.value().find("crash")) {
        machine.set("problem", "crashed: " + crash->string_or("reason"));
    }
}

Result<hypervisor::ControlClient> connect(const Json& machine) {
    auto client = hypervisor::ControlClient::connect(file_of(machine, "control.sock"), kConnectMs);
    if (!client.ok() && (client.error().code == ErrorCode::NotFound ||
                         client.error().code == ErrorCode::Unavailable)) {
        return Error::conflict("Machine {} does not run.", machine.string_or("name"));
    }
    return client;
}

}  // namespace

Result<Json::Array> local_machines(const std::string& instances_path) {
    Json::Array machines;
    const auto names = list_directory(instances_path);
    if (!names.ok()) {
        if (names.error().code == ErrorCode::NotFound) {
            return machines;
        }
        return names.error();
    }
    for (const std::string& name : names.value()) {
        if (!Uuid::parse(name)) {
            continue;
        }
        const std::string path = instances_path + "/" + name;
        Json machine = Json::object({{"id", name},
                                     {"name", ""},
                                     {"state", ""},
                                     {"vcpus", nullptr},
                                     {"memory_mb", nullptr},
                                     {"address", ""},
                                     {"problem", ""},
                                     {"path", path}});
        add_config(path, machine);
        add_state(machine);
        machines.push_back(std::move(machine));
    }
    return machines;
}

Result<Json> call_machine(const Json& machine, std::string_view method) {
    auto client = TRY(connect(machine));
    return client.call(method, Json::object(), kAnswerMs);
}

Result<void> power_off(const Json& machine, int64_t wait_ms) {
    auto client = TRY(connect(machine));
    TRY(client.call("subscribe", Json::object(), kAnswerMs));
    TRY(client.call("power_button", Json::object(), kAnswerMs));
    for (;;) {
        // Each event restarts the wait; a guest has few to tell while it shuts down.
        const auto event = client.wait_event(wait_ms);
        if (!event.ok()) {
            return {};  // the process has ended
        }
        if (!event.value()) {
            return Error::timeout("{} did not shut down in {} ms.", machine.string_or("name"),
                                  wait_ms)
                .with_hint("Its guest may not listen to the power button; --force cuts the power.");
        }
        if (event.value()->name == "exiting" || event.value()->name == "shutdown") {
            return {};
        }
    }
}

std::string last_lines(std::string_view text, size_t lines) {
    if (lines == 0) {
        return std::string(text);
    }
    size_t position = text.size();
    if (position > 0 && text[position - 1] == '\n') {
        --position;
    }
    while (position > 0) {
        if (text[position - 1] == '\n' && --lines == 0) {
            break;
        }
        --position;
    }
    return std::string(text.substr(position));
}

Result<std::string> console_log(const Json& machine, size_t lines) {
    std::string text;
    const std::string before = file_of(machine, "console.log.1");
    if (path_exists(before)) {
        text = TRY(read_file(before, kLogBytesMax));
    }
    const std::string current = file_of(machine, "console.log");
    if (path_exists(current)) {
        text += TRY(read_file(current, kLogBytesMax));
    }
    return last_lines(text, lines);
}

}  // namespace kumoi::cli
