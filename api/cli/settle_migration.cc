#include "api/cli/settle_migration.h"

#include "api/cli/maintenance.h"
#include "api/cli/server_migration.h"

namespace kumoi::cli {

Result<void> fence_host_of_migration(Cloud& cloud, const Json& server, const std::string& host) {
    const auto migrations = TRY(migrations_under_way(cloud, server.string_or("id")));
    if (migrations.empty()) {
        return Error::not_found("No live migration of server {} is under way.",
                                server.string_or("name"))
            .with_hint("A server whose host is off comes back with: openstack server evacuate");
    }
    const std::string source = migrations.front().string_or("source_compute");
    const std::string destination = migrations.front().string_or("dest_compute");
    if (host != source && host != destination) {
        return Error::invalid("The live migration of server {} is between {} and {}, not {}.",
                              server.string_or("name"), source, destination, host);
    }
    const Json service = TRY(find_compute_service(cloud, host));
    if (service.string_or("host") != host) {
        return Error::not_found("No compute service runs on a host called {}.", host);
    }
    if (service.bool_or("forced_down")) {
        return {};
    }
    if (service.string_or("state") == "up") {
        return Error::conflict("The compute service of {} answers: that host is not off.", host)
            .with_hint(
                "Turn the host off first, and wait until its service is down; a guest that "
                "still runs there would run twice.");
    }
    TRY(cloud.put("compute", "/os-services/" + service.string_or("id"),
                  Json::object({{"forced_down", true}})));
    return {};
}

Result<std::string> settled_host(Cloud& cloud, const std::string& server_id) {
    const Json answer = TRY(cloud.get("compute", "/servers/" + server_id));
    const Json* server = answer.find("server");
    const bool over =
        server != nullptr && server->string_or("OS-EXT-STS:task_state") != "migrating";
    return over ? server->string_or("OS-EXT-SRV-ATTR:host") : std::string();
}

}  // namespace kumoi::cli
