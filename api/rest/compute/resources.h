// One function per file of resources: adds its routes.
#pragma once

namespace kumoi::api {

class ComputeRoutes;
class Router;

void add_version_routes(Router& router);                   // versions.cc: need no token
void add_server_routes(ComputeRoutes& routes);             // servers.cc
void add_server_list_routes(ComputeRoutes& routes);        // server_list.cc
void add_server_action_routes(ComputeRoutes& routes);      // server_actions.cc
void add_migration_routes(ComputeRoutes& routes);          // migrations.cc
void add_server_metadata_routes(ComputeRoutes& routes);    // server_metadata.cc
void add_server_tag_routes(ComputeRoutes& routes);         // server_tags.cc
void add_server_address_routes(ComputeRoutes& routes);     // server_addresses.cc
void add_instance_action_routes(ComputeRoutes& routes);    // instance_actions.cc
void add_server_extra_routes(ComputeRoutes& routes);       // server_extras.cc
void add_server_password_routes(ComputeRoutes& routes);    // server_password.cc
void add_flavor_routes(ComputeRoutes& routes);             // flavors.cc
void add_flavor_extra_routes(ComputeRoutes& routes);       // flavor_extras.cc
void add_keypair_routes(ComputeRoutes& routes);            // keypairs.cc
void add_availability_zone_routes(ComputeRoutes& routes);  // availability_zones.cc
void add_hypervisor_routes(ComputeRoutes& routes);         // hypervisors.cc
void add_service_routes(ComputeRoutes& routes);            // services.cc
void add_remote_console_routes(ComputeRoutes& routes);     // remote_consoles.cc
void add_limit_routes(ComputeRoutes& routes);              // limits.cc
void add_quota_set_routes(ComputeRoutes& routes);          // quota_sets.cc
void add_server_group_routes(ComputeRoutes& routes);       // server_groups.cc
void add_aggregate_routes(ComputeRoutes& routes);          // aggregates.cc
void add_extension_routes(ComputeRoutes& routes);          // extensions.cc

}  // namespace kumoi::api
