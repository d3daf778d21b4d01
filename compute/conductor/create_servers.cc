// Conductor, part two: from a create request to servers that a node builds. Everything that can be
// refused is refused before anything exists; then placement and quota are decided under one lock
// and stored in one transaction; only then the nodes are told.
#include <algorithm>
#include <cctype>

#include <fmt/ranges.h>

#include "base/log.h"
#include "base/uuid.h"
#include "compute/conductor/conductor.h"
#include "compute/conductor/request_checks.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr char kScheduleEvent[] = "conductor_schedule_and_build_instances";
constexpr int64_t kBytesPerGib = int64_t{1} << 30;

// RFC 1123 label from a display name, as Nova makes it: separators become dashes, the rest goes.
std::string sanitized_hostname(std::string_view name, const std::string& fallback) {
    std::string hostname;
    for (const char raw : name) {
        const auto c = static_cast<unsigned char>(raw);
        if (std::isalnum(c) != 0) {
            hostname += static_cast<char>(std::tolower(c));
        } else if (c == '-' || c == ' ' || c == '_' || c == '.') {
            hostname += '-';
        }
    }
    const size_t first = hostname.find_first_not_of('-');
    if (first == std::string::npos) {
        return fallback;
    }
    hostname = hostname.substr(first, 63);
    hostname.erase(hostname.find_last_not_of('-') + 1);
    return hostname;
}

std::string reservation_id(Random& random) {
    constexpr std::string_view alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
    std::string id = "r-";
    for (int index = 0; index < 8; ++index) {
        id += alphabet[random.below(alphabet.size())];
    }
    return id;
}

Error bad_request(std::string_view fault, std::string message, std::string hint = {}) {
    return Error{ErrorCode::InvalidArgument, std::move(message), std::move(hint),
                 std::string(fault)};
}

Fault fault_from(const Error& error, int64_t now_ns) {
    // Nova shows `details` to administrators only.
    return Fault{500, error.text(), error.text(), now_ns};
}

}  // namespace

void set_image_metadata(Instance& instance) {
    Properties& keys = instance.system_metadata;
    keys["image_base_image_ref"] = instance.image.id;
    keys["image_min_disk"] = std::to_string(instance.image.min_disk_gb);
    keys["image_min_ram"] = std::to_string(instance.image.min_ram_mb);
    keys["image_disk_format"] = instance.image.disk_format;
    keys["image_container_format"] = instance.image.container_format;
}

Error quota_exceeded(const std::vector<QuotaLine>& over, int64_t count) {
    std::vector<std::string> names, requested, used, limits;
    for (const QuotaLine& line : over) {
        names.push_back(line.resource);
        requested.push_back(std::to_string(line.per_server * count));
        used.push_back(std::to_string(line.used));
        limits.push_back(std::to_string(line.limit));
    }
    return Error::forbidden("Quota exceeded for {}: Requested {}, but already used {} of {} {}",
                            fmt::join(names, ", "), fmt::join(requested, ", "),
                            fmt::join(used, ", "), fmt::join(limits, ", "), fmt::join(names, ", "))
        .with_fault("TooManyInstances");
}

Result<CreatedServers> Conductor::create_servers(const CreateServers& request) {
    const Instance prototype = TRY(instance_template(request));
    TRY(check_image(prototype));
    TRY(check_zone(request));
    CreateServers resolved = request;
    if (request.network_choice == NetworkChoice::None) {
        resolved.networks.clear();
    } else {
        resolved.networks = TRY(networks_.validate_networks(
            request.context, request.networks, request.network_choice == NetworkChoice::Automatic,
            request.security_groups));
    }
    CreatedServers created;
    created.reservation_id = prototype.reservation_id;
    created.servers = TRY(store_servers(resolved, prototype));
    cast_builds(request.context, created.servers);
    return created;
}

Result<Instance> Conductor::instance_template(const CreateServers& request) {
    Instance instance;
    instance.project_id = request.context.project_id;
    instance.user_id = request.context.user_id;
    instance.flavor = TRY(flavor_for(request.context, request.flavor_id));
    auto image = images_.show(request.context, request.image_id);
    if (!image.ok()) {
        if (image.error().code != ErrorCode::NotFound) {
            return std::move(image).error();
        }
        return bad_request("ImageNotFound",
                           fmt::format("Image {} could not be found.", request.image_id),
                           "openstack image list shows what there is.");
    }
    instance.image = std::move(image).value();
    instance.image_id = instance.image.id;
    if (!request.key_name.empty()) {
        const auto keypair = keypairs_.get(request.context.user_id, request.key_name);
        if (!keypair.ok()) {
            return bad_request("KeypairNotFound", "Invalid key_name provided.",
                               "openstack keypair list shows your keys.");
        }
        instance.key_name = keypair->name;
        instance.key_data = keypair->public_key;
    }
    if (!request.server_group.empty()) {
        const auto group = server_groups_.get(request.server_group);
        if (!group.ok() || group->project_id != instance.project_id) {
            return bad_request(
                "InstanceGroupNotFound",
                fmt::format("Instance group {} could not be found.", request.server_group));
        }
    }
    instance.reservation_id = reservation_id(random_);
    instance.vm_state = vm_states::kBuilding;
    instance.display_description = request.description;
    instance.user_data = request.user_data;
    instance.config_drive = request.config_drive;
    instance.auto_disk_config = request.auto_disk_config;
    instance.access_ip_v4 = request.access_ip_v4;
    instance.access_ip_v6 = request.access_ip_v6;
    instance.metadata = request.metadata;
    instance.tags = request.tags;
    instance.security_groups = request.security_groups;
    instance.pinned_availability_zone = request.availability_zone;
    set_image_metadata(instance);
    return instance;
}

Result<void> Conductor::check_image(const Instance& instance) const {
    const ImageMeta& image = instance.image;
    const Flavor& flavor = instance.flavor;
    if (image.status != "active") {
        return bad_request("ImageNotActive", fmt::format("Image {} is not active.", image.id),
                           fmt::format("Its status is {}.", image.status));
    }
    if (flavor.memory_mb < image.min_ram_mb) {
        return bad_request("FlavorMemoryTooSmall",
                           "Flavor's memory is too small for requested image.",
                           fmt::format("Flavor {} has {} MiB, the image needs {} MiB.", flavor.name,
                                       flavor.memory_mb, image.min_ram_mb));
    }
    // A root disk of 0 GiB takes whatever size the image has.
    const int64_t root_bytes = flavor.root_gb * kBytesPerGib;
    if (root_bytes == 0) {
        return {};
    }
    if (static_cast<int64_t>(image.size) > root_bytes) {
        return bad_request(
            "FlavorDiskSmallerThanImage",
            fmt::format("Flavor's disk is too small for requested image. Flavor disk is {} bytes, "
                        "image is {} bytes.",
                        root_bytes, image.size));
    }
    if (flavor.root_gb < image.min_disk_gb) {
        return bad_request(
            "FlavorDiskSmallerThanMinDisk",
            fmt::format("Flavor's disk is smaller than the minimum size specified in image "
                        "metadata. Flavor disk is {} bytes, minimum size is {} bytes.",
                        root_bytes, image.min_disk_gb * kBytesPerGib));
    }
    return {};
}

Result<void> Conductor::check_zone(const CreateServers& request) const {
    if (request.availability_zone && !aggregates_.zones().contains(*request.availability_zone)) {
        return bad_request(
            "AvailabilityZoneNotFound", "The requested availability zone is not available",
            fmt::format("{} was requested; there are: {}.", *request.availability_zone,
                        fmt::join(aggregates_.zones(), ", ")));
    }
    const std::string& host = request.requested_host;
    if (!host.empty() && !services_.find_node(host)) {
        return bad_request("ComputeHostNotFound",
                           fmt::format("Compute host {} could not be found.", host),
                           "openstack hypervisor list shows the hosts.");
    }
    if (!request.requested_node.empty()) {
        const auto nodes = services_.nodes();
        const bool known = std::any_of(nodes.begin(), nodes.end(), [&](const auto& record) {
            return record.node.hypervisor_hostname == request.requested_node;
        });
        if (!known) {
            return bad_request(
                "ComputeHostNotFound",
                fmt::format("Compute host {} could not be found.", request.requested_node));
        }
    }
    return {};
}

Result<void> Conductor::check_quota(const CreateServers& request, const Flavor& flavor,
                                    int64_t& count) const {
    const std::string& project = request.context.project_id;
    const ProjectUsage usage = instances_.usage(project);
    const auto limits = quotas_.limits(project);
    const QuotaLine lines[] = {
        {"instances", 1, usage.instances, limits.at("instances")},
        {"cores", flavor.vcpus, usage.cores, limits.at("cores")},
        {"ram", flavor.memory_mb, usage.ram_mb, limits.at("ram")},
    };
    // As many as fit, like Nova; fewer than the minimum is a refusal that names what is short.
    count = request.max_count;
    std::vector<QuotaLine> over;
    for (const QuotaLine& line : lines) {
        if (line.limit < 0 || line.per_server == 0) {
            continue;
        }
        const int64_t room = std::max<int64_t>(0, (line.limit - line.used) / line.per_server);
        count = std::min(count, room);
        if (room < request.min_count) {
            over.push_back(line);
        }
    }
    if (!over.empty()) {
        return quota_exceeded(over, request.min_count);
    }
    const int64_t members_max = limits.at("server_group_members");
    if (!request.server_group.empty() && members_max >= 0) {
        const auto group = server_groups_.get(request.server_group);
        const int64_t members = group.ok() ? static_cast<int64_t>(group->members.size()) : 0;
        if (members + count > members_max) {
            return Error{ErrorCode::Forbidden, "Quota exceeded, too many servers in group",
                         fmt::format("The group has {} of {} servers.", members, members_max),
                         "GroupMemberLimitExceeded"};
        }
    }
    return {};
}

Result<std::vector<Instance>> Conductor::store_servers(const CreateServers& request,
                                                       const Instance& prototype) {
    std::vector<Instance> servers;
    {
        // The session is the lock under which quota, placement and records change together.
        Placement::Session session(placement_);
        int64_t count = 0;
        TRY(check_quota(request, prototype.flavor, count));
        for (int64_t index = 0; index < count; ++index) {
            servers.push_back(numbered_copy(request, prototype, index, count));
            place(session, request, servers.back());
        }
        TRY(insert_servers(request, servers));
    }
    TRY(instances_.sync());
    return servers;
}

Instance Conductor::numbered_copy(const CreateServers& request, const Instance& prototype,
                                  int64_t index, int64_t count) {
    Instance instance = prototype;
    instance.uuid = Uuid::generate(random_).text();
    instance.launch_index = index;
    instance.created_ns = clock_.wall_ns();
    instance.updated_ns = instance.created_ns;
    instance.display_name =
        count > 1 ? fmt::format("{}-{}", request.name, index + 1) : request.name;
    instance.hostname = request.hostname.value_or(
        sanitized_hostname(instance.display_name, "server-" + instance.uuid));
    return instance;
}

void Conductor::place(Placement::Session& session, const CreateServers& request,
                      Instance& instance) {
    scheduler::RequestSpec spec = placement_.request_spec(instance, request.server_group);
    spec.requested_host = request.requested_host;
    spec.requested_node = request.requested_node;
    const auto picked = session.pick(spec);
    if (picked.ok()) {
        instance.host = picked->host;
        instance.node = picked->node;
        instance.availability_zone = picked->availability_zone;
        log_debug("conductor", "placed",
                  {{"server", instance.uuid}, {"host", picked->host}, {"why", picked->report}});
        return;
    }
    instance.vm_state = vm_states::kError;
    instance.fault = fault_from(picked.error(), instance.created_ns);
    log_warn("conductor", "no valid host",
             {{"server", instance.uuid}, {"why", picked.error().message}});
}

Result<void> Conductor::insert_servers(const CreateServers& request,
                                       std::vector<Instance>& servers) {
    const BuildInputs inputs{request.networks,
                             request.injected_files,
                             request.admin_password,
                             request.requested_host,
                             request.requested_node,
                             request.server_group,
                             {},
                             0};
    TRY(instances_.insert(servers, [&](SqlSession& sql) -> Result<void> {
        for (const Instance& instance : servers) {
            TRY(actions_.start(sql, request.context, instance.uuid, "create"));
            if (!request.server_group.empty()) {
                TRY(ServerGroupStore::add_member(sql, request.server_group, instance.uuid));
            }
            if (!instance.host.empty()) {
                TRY(sql.run("INSERT INTO build_requests(instance_uuid, body) VALUES(?, ?)",
                            instance.uuid, build_inputs_to_json(inputs).dump()));
            }
        }
        return {};
    }));
    for (const Instance& instance : servers) {
        if (!request.server_group.empty()) {
            server_groups_.joined(request.server_group, instance.uuid);
        }
        const std::lock_guard lock(builds_mutex_);
        if (!instance.host.empty()) {
            builds_[instance.uuid] = inputs;
        }
    }
    return {};
}

void Conductor::cast_builds(const RequestContext& context, const std::vector<Instance>& servers) {
    for (const Instance& instance : servers) {
        if (instance.host.empty()) {
            const Error error{ErrorCode::Exhausted, instance.fault->message, "", "NoValidHost"};
            const auto logged = actions_.fail(context, instance.uuid, kScheduleEvent, error);
            if (!logged.ok()) {
                log_warn("conductor", "could not record a failed action",
                         {{"server", instance.uuid}, {"why", logged.error().message}});
            }
            continue;
        }
        const auto inputs = build_inputs(instance.uuid);
        const auto cast =
            inputs.ok() ? cast_build(context, instance, *inputs) : Result<void>(inputs.error());
        if (!cast.ok()) {
            const auto again = reschedule_build(context, instance.uuid, cast.error());
            if (!again.ok()) {
                give_up_build(context, instance.uuid, again.error());
            }
        }
    }
}

Result<void> Conductor::cast_build(const RequestContext& context, const Instance& instance,
                                   const BuildInputs& inputs) {
    BuildRequest build{context, instance, inputs.networks, inputs.injected_files};
    build.instance.admin_password = inputs.admin_password;
    return TRY(hosts_.get(instance.host))->build_and_run_instance(std::move(build));
}

Result<BuildInputs> Conductor::build_inputs(const std::string& uuid) {
    {
        const std::lock_guard lock(builds_mutex_);
        const auto found = builds_.find(uuid);
        if (found != builds_.end()) {
            return found->second;
        }
    }
    const auto row = TRY(database_.read([&](SqlSession& sql) {
        return sql.query_one("SELECT body FROM build_requests WHERE instance_uuid = ?", uuid);
    }));
    if (!row) {
        return Error::not_found("No build of server {} is running.", uuid)
            .with_fault("BuildRequestNotFound");
    }
    return build_inputs_from_json(TRY(Json::parse(row->text(0))));
}

Result<void> Conductor::reschedule_build(const RequestContext& context, const std::string& uuid,
                                         const Error& reason) {
    note_touched(uuid);
    BuildInputs inputs = TRY(build_inputs(uuid));
    const Instance failed = TRY(instances_.get(uuid))->instance;
    if (failed.task_state == task_states::kDeleting) {
        return {};  // the delete that waits behind this build cleans up
    }
    inputs.attempts += 1;
    // A host that was only cut short may well be asked again.
    const bool interrupted =
        reason.code == ErrorCode::Unavailable && hosts_.find(failed.host) != nullptr;
    if (!interrupted) {
        inputs.tried_hosts.insert(failed.host);
    }
    const bool only_there = !inputs.requested_host.empty() && !interrupted;
    if (inputs.attempts >= options_.max_attempts || only_there) {
        give_up_build(context, uuid,
                      Error(reason).with_context("The build failed on " + failed.host));
        return {};
    }
    const auto moved = move_build(failed, inputs);
    if (!moved.ok()) {
        Error combined = Error(reason).with_context("The build failed on " + failed.host);
        combined.message += ". " + moved.error().message;
        give_up_build(context, uuid, combined);
        return {};
    }
    const auto cast = cast_build(context, moved.value()->instance, inputs);
    if (!cast.ok()) {
        give_up_build(context, uuid, cast.error());
    }
    return {};
}

Result<InstancePtr> Conductor::move_build(const Instance& failed, const BuildInputs& inputs) {
    scheduler::RequestSpec spec = placement_.request_spec(failed, inputs.server_group);
    spec.requested_host = inputs.requested_host;
    spec.requested_node = inputs.requested_node;
    spec.ignored_hosts = inputs.tried_hosts;
    Placement::Session session(placement_);
    const PickedHost picked = TRY(session.pick(spec));
    InstancePtr moved = TRY(instances_.update(
        failed.uuid,
        [&](Instance& instance) -> Result<void> {
            instance.host = picked.host;
            instance.node = picked.node;
            instance.availability_zone = picked.availability_zone;
            instance.vm_state = vm_states::kBuilding;
            instance.task_state = std::nullopt;
            instance.network_info.clear();
            return {};
        },
        [&](SqlSession& sql) -> Result<void> {
            TRY(
                sql.run("INSERT INTO build_requests(instance_uuid, body) VALUES(?, ?) ON "
                        "CONFLICT(instance_uuid) DO UPDATE SET body = excluded.body",
                        failed.uuid, build_inputs_to_json(inputs).dump()));
            return {};
        }));
    const std::lock_guard lock(builds_mutex_);
    builds_[failed.uuid] = inputs;
    return moved;
}

void Conductor::give_up_build(const RequestContext& context, const std::string& uuid,
                              const Error& reason) {
    const auto stored = instances_.update(
        uuid,
        [&](Instance& instance) -> Result<void> {
            instance.vm_state = vm_states::kError;
            if (instance.task_state != task_states::kDeleting) {
                instance.task_state = std::nullopt;
            }
            instance.host.clear();
            instance.node.clear();
            instance.availability_zone.clear();
            instance.network_info.clear();
            instance.fault = fault_from(reason, clock_.wall_ns());
            return {};
        },
        [&](SqlSession& sql) -> Result<void> {
            TRY(sql.run("DELETE FROM build_requests WHERE instance_uuid = ?", uuid));
            return {};
        });
    {
        const std::lock_guard lock(builds_mutex_);
        builds_.erase(uuid);
    }
    const auto logged = actions_.fail(context, uuid, kScheduleEvent, reason);
    if (!stored.ok() || !logged.ok()) {
        log_error("conductor", "could not record a failed build",
                  {{"server", uuid}, {"why", reason.message}});
    }
}

}  // namespace kumoi::compute
