// kumoi host, image, flavor and network: what there is to run servers on and from.
#include "api/cli/command.h"
#include "api/cli/find.h"
#include "api/cli/host_maintenance_command.h"
#include "api/cli/host_upgrade_command.h"

namespace kumoi::cli {
namespace {

struct Resource {
    std::string noun;
    std::string service;
    std::string path;
    std::string key;
    std::vector<Column> columns;
    std::string name_member = "name";
};

void add_list_and_show(CLI::App* noun, Session& session, const Resource& resource) {
    add_verb(noun, "list", "List them.", session, [&session, resource]() -> Result<void> {
        Cloud* cloud = TRY(session.cloud());
        return session.out.list(resource.columns,
                                TRY(cloud->list(resource.service, resource.path, resource.key)));
    });
    auto wanted = std::make_shared<std::string>();  // shared with the callback
    add_verb(noun, "show", "Show one.", session,
             [&session, resource, wanted]() -> Result<void> {
                 Cloud* cloud = TRY(session.cloud());
                 const auto all = TRY(cloud->list(resource.service, resource.path, resource.key));
                 return session.out.record(
                     resource.columns,
                     TRY(find_one(resource.noun, all, *wanted, "id", resource.name_member)));
             })
        ->add_option(resource.noun, *wanted, "Name or id.")
        ->required();
}

}  // namespace

void add_host_commands(CLI::App& app, Session& session) {
    CLI::App* noun = add_noun(app, "host", "Hosts that run servers (administrators).");
    add_list_and_show(noun, session,
                      {.noun = "host",
                       .service = "compute",
                       .path = "/os-hypervisors/detail",
                       .key = "hypervisors",
                       .columns = {{"ID", "id"},
                                   {"NAME", "hypervisor_hostname"},
                                   {"STATE", "state"},
                                   {"STATUS", "status"},
                                   {"SERVERS", "running_vms", true},
                                   {"VCPUS", "vcpus", true},
                                   {"VCPUS_USED", "vcpus_used", true},
                                   {"MEMORY_MIB", "memory_mb", true},
                                   {"MEMORY_USED", "memory_mb_used", true},
                                   {"DISK_GIB", "local_gb", true},
                                   {"ADDRESS", "host_ip"}},
                       .name_member = "hypervisor_hostname"});
    add_host_maintenance_verbs(noun, session);
    add_host_upgrade_verb(noun, session);
}

void add_image_commands(CLI::App& app, Session& session) {
    add_list_and_show(add_noun(app, "image", "Images to make servers from."), session,
                      {.noun = "image",
                       .service = "image",
                       .path = "/images",
                       .key = "images",
                       .columns = {{"ID", "id"},
                                   {"NAME", "name"},
                                   {"STATUS", "status"},
                                   {"FORMAT", "disk_format"},
                                   {"BYTES", "size", true},
                                   {"MIN_DISK_GIB", "min_disk", true},
                                   {"MIN_RAM_MIB", "min_ram", true},
                                   {"VISIBILITY", "visibility"}}});
}

void add_flavor_commands(CLI::App& app, Session& session) {
    add_list_and_show(add_noun(app, "flavor", "Sizes of servers."), session,
                      {.noun = "flavor",
                       .service = "compute",
                       .path = "/flavors/detail",
                       .key = "flavors",
                       .columns = {{"ID", "id"},
                                   {"NAME", "name"},
                                   {"VCPUS", "vcpus", true},
                                   {"MEMORY_MIB", "ram", true},
                                   {"DISK_GIB", "disk", true},
                                   {"PUBLIC", "os-flavor-access:is_public"}}});
}

void add_network_commands(CLI::App& app, Session& session) {
    add_list_and_show(add_noun(app, "network", "Networks servers are joined to."), session,
                      {.noun = "network",
                       .service = "network",
                       .path = "/networks",
                       .key = "networks",
                       .columns = {{"ID", "id"},
                                   {"NAME", "name"},
                                   {"STATUS", "status"},
                                   {"SHARED", "shared"},
                                   {"EXTERNAL", "router:external"},
                                   {"MTU", "mtu", true},
                                   {"SUBNETS", "subnets"}}});
}

}  // namespace kumoi::cli
