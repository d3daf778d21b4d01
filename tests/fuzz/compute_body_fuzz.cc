// Bodies and query strings of the Compute API: whatever a client sends, the answer is a status with
// a JSON body and nothing is left that another request could trip over. The first byte picks the
// call.
#include <iterator>

#include "api/rest/compute/compute_api.h"
#include "base/log.h"
#include "tests/support/conductor_fakes.h"

namespace kumoi::api {
namespace {

using namespace compute::conductor_fakes;

class AnyToken final : public TokenValidator {
public:
    Result<AuthContext> validate(std::string_view) override {
        AuthContext who;
        who.user_id = who.project_id = "fuzz";
        who.roles = {"admin"};
        who.is_admin = true;
        return who;
    }
};

struct World {
    World() {
        (void)log_init({.level = LogLevel::Error, .file = "/dev/null", .json = false});
        images.add("340aee23-0f31-4bb7-a985-456e4da837c6");
        database = compute::Database::open(":memory:").value();
        conductor =
            compute::Conductor::create({}, {*database, clock, random, images, networks}).value();
        node.conductor = conductor.get();
        conductor->register_host("cn-1", node);
        KUMOI_ASSERT(conductor->service_heartbeat("cn-1").ok());
        KUMOI_ASSERT(conductor->compute_node_update(node.node(64, 65536, 1000)).ok());
        compute::Flavor flavor;
        flavor.flavor_id = flavor.name = "42";
        flavor.vcpus = flavor.root_gb = 1;
        flavor.memory_mb = 64;
        KUMOI_ASSERT(conductor->flavors().create(flavor).ok());
        services = std::make_unique<ComputeServices>(
            ComputeServices{*conductor, clock, random, tokens, "http://k", 100});
        router = std::make_unique<Router>(make_compute_router(*services));
        compute::CreateServers create;
        create.context = {"req-0", "fuzz", "fuzz", true};
        create.name = "target";
        create.image_id = "340aee23-0f31-4bb7-a985-456e4da837c6";
        create.flavor_id = "42";
        server = conductor->create_servers(create).value().servers.front().uuid;
    }

    Reply call(std::string_view method, const std::string& target, std::string body, bool latest) {
        HeaderMap headers;
        headers.add("Host", "k");
        headers.add("X-Auth-Token", "t");
        headers.add("OpenStack-API-Version", latest ? "compute latest" : "compute 2.1");
        Request request = make_request(method, "/v2.1" + target, std::move(body), headers);
        request.request_id = "req-fuzz";
        return router->handle(request);
    }

    ManualClock clock;
    SeededRandom random{1};
    ImageApiFake images;
    NetworkApiFake networks;
    AnyToken tokens;
    ComputeApiFake node{"cn-1"};
    std::unique_ptr<compute::Database> database;
    std::unique_ptr<compute::Conductor> conductor;
    std::unique_ptr<ComputeServices> services;
    std::unique_ptr<Router> router;
    std::string server;
};

struct FuzzedCall {
    const char* method;
    const char* path;  // {} is the server's id
};
constexpr FuzzedCall kTargets[] = {
    {"POST", "/servers"},
    {"PUT", "/servers/{}"},
    {"POST", "/servers/{}/action"},
    {"POST", "/flavors"},
    {"POST", "/flavors/42/os-extra_specs"},
    {"POST", "/os-keypairs"},
    {"PUT", "/servers/{}/tags"},
    {"POST", "/servers/{}/metadata"},
    {"POST", "/os-server-groups"},
    {"POST", "/os-aggregates"},
    {"PUT", "/os-quota-sets/fuzz"},
    {"GET", "/servers/detail?"},
};

// What requests made is removed again, so that every input meets the same world.
void clean_up(World& world) {
    for (const auto& stored : world.conductor->instances().all()) {
        if (stored->instance.uuid != world.server) {
            (void)world.conductor->instance_destroy(stored->instance.uuid);
        }
    }
    world.node.calls.clear();
    world.node.builds.clear();
}

}  // namespace
}  // namespace kumoi::api

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace kumoi::api;
    // Made anew only when a request deleted the server, or the small records pile up.
    static std::unique_ptr<World> shared;
    static int inputs = 0;
    if (shared == nullptr || ++inputs % 1000 == 0 ||
        shared->conductor->instances().find(shared->server) == nullptr) {
        shared = std::make_unique<World>();
    }
    if (size < 2) {
        return 0;
    }
    const FuzzedCall& target = kTargets[data[0] % std::size(kTargets)];
    std::string path = target.path;
    if (const size_t place = path.find("{}"); place != std::string::npos) {
        path.replace(place, 2, shared->server);
    }
    std::string body(reinterpret_cast<const char*>(data + 1), size - 1);
    if (path.ends_with("?")) {
        path += "name=" + kumoi::api::percent_encode(body) + "&sort_key=display_name";
        body.clear();
        if (!parse_target("/v2.1" + path).ok()) {
            return 0;  // refused below the API: http_request_fuzz
        }
    }
    const Reply reply = shared->call(target.method, path, std::move(body), data[0] >= 128);
    KUMOI_ASSERT(reply.status >= 200);
    KUMOI_ASSERT(reply.status < 500 || reply.status == 501);
    KUMOI_ASSERT(reply.body.empty() || kumoi::Json::parse(reply.body).ok());
    clean_up(*shared);
    return 0;
}
