// Any JSON as a request of Nova's compute RPC API, {"method", "version", "args", "context"}:
// whatever a peer sends is answered or refused, and what was adopted can be recorded afterwards.
#include <cstdint>
#include <string_view>

#include "api/nova/compute_endpoint.h"
#include "tests/support/conductor_fakes.h"
#include "tests/support/quiet_rpc.h"

using namespace kumoi;
using namespace kumoi::nova;

namespace {

class NoConsoles final : public ConsolePorts {
public:
    Result<Json> connect(const Json&, const std::string&, const std::string&) override {
        return Json::object();
    }
    bool is_valid(const std::string&, const std::string&, const std::string&) override {
        return false;
    }
};

void run(const Json& message, Release release) {
    ManualClock clock(0);
    SeededRandom random(1, "compute endpoint");
    test::QuietRpc rpc;
    test::RecordedAllocations allocations;
    ObjectClient objects(rpc, ObjectTable::of(release));
    SchedulerNews scheduler(rpc, objects.table(), "cn1", clock, random, true);
    NodeRecords node(objects, clock, random, {"cn1", "cn1", release},
                     [](const compute::ComputeNode&, bool) { return Result<void>(); });
    NovaConductor conductor({objects, allocations, node, scheduler, clock, random});
    compute::conductor_fakes::ComputeApiFake manager("cn1");
    manager.finish_at_once = false;
    manager.conductor = &conductor;
    compute::ExternalEvents events;
    NoConsoles consoles;
    ComputeEndpoint endpoint({manager, conductor, objects, node, events, consoles});
    amqp::RpcRequest request;
    request.method = message.string_or("method");
    request.version = message.string_or("version", "6.0");
    if (const Json* args = message.find("args"); args != nullptr && args->is_object()) {
        request.args = *args;
    }
    if (const Json* context = message.find("context"); context != nullptr && context->is_object()) {
        request.context = *context;
    }
    (void)endpoint.handle(request);
    const Json* uuid = request.args.find_path({"instance", "nova_object.data", "uuid"});
    if (uuid != nullptr && uuid->is_string()) {
        compute::InstanceUpdate update;
        update.vm_state = "active";
        update.task_state = std::optional<std::string>();
        update.expected_task_state = {{"spawning", std::nullopt}};
        (void)conductor.instance_save(uuid->as_string(), update);
        (void)conductor.reschedule_build({}, uuid->as_string(), Error::unavailable("full"));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto message = Json::parse({reinterpret_cast<const char*>(data), size});
    if (message.ok()) {
        run(*message, Release::Zed);
        run(*message, Release::Gazpacho);
    }
    return 0;
}
