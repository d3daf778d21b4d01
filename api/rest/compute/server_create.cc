#include "api/rest/compute/server_create.h"

#include <arpa/inet.h>

#include <algorithm>
#include <set>

#include "api/rest/schema.h"
#include "base/digest.h"
#include "base/uuid.h"

namespace kumoi::api {
namespace {

using compute::CreateServers;
using compute::NetworkChoice;
using compute::RequestedNetwork;

constexpr size_t kUserDataMax = 65535;
constexpr size_t kTagCountMax = 50;
constexpr size_t kTagLengthMax = 60;
constexpr int64_t kCountMax = 1000;  // servers of one request

bool is_address(const std::string& text, int version) {
    unsigned char bytes[16];
    const bool v4 = inet_pton(AF_INET, text.c_str(), bytes) == 1;
    const bool v6 = inet_pton(AF_INET6, text.c_str(), bytes) == 1;
    return version == 4 ? v4 : version == 6 ? v6 : v4 || v6;
}

Result<RequestedNetwork> parse_network(const Call& call, const Json& item) {
    Fields fields = TRY(Fields::of(item, "networks"));
    RequestedNetwork network;
    network.network_id = TRY(fields.optional_uuid("uuid"));
    network.port_id = TRY(fields.optional_uuid("port"));
    network.fixed_ip = TRY(fields.optional_text("fixed_ip"));
    if (call.at_least(42) || (call.at_least(32) && !call.at_least(37))) {
        network.tag = TRY(fields.optional_text("tag", {1, kTagLengthMax}));
    }
    TRY(fields.finish());
    if (network.fixed_ip && !is_address(*network.fixed_ip, 0)) {
        return invalid_input("fixed_ip", *item.find("fixed_ip"),
                             fmt::format("'{}' is not a 'ip-address'", *network.fixed_ip));
    }
    if (network.port_id && network.fixed_ip) {
        return Error::invalid(
            "Specified Fixed IP '{}' cannot be used with port '{}': the two cannot be specified "
            "together.",
            *network.fixed_ip, *network.port_id);
    }
    if (!network.port_id && !network.network_id) {
        return Error::invalid("Bad network format: missing 'uuid'");
    }
    return network;
}

Result<void> parse_networks(const Call& call, Fields& fields, CreateServers& request) {
    if (call.at_least(37)) {
        TRY(fields.require("networks"));
    }
    const Json* networks = fields.take("networks");
    if (networks == nullptr || (networks->is_array() && networks->size() == 0)) {
        return {};  // automatic, as before 2.37
    }
    if (networks->is_string() && call.at_least(37)) {
        if (networks->as_string() == "none") {
            request.network_choice = NetworkChoice::None;
            return {};
        }
        if (networks->as_string() == "auto") {
            return {};
        }
    }
    if (!networks->is_array()) {
        return invalid_input("networks", *networks,
                             "It must be a list of networks, 'auto' or 'none' (from 2.37 on).");
    }
    request.network_choice = NetworkChoice::Listed;
    std::set<std::string> ports;
    for (const Json& item : networks->as_array()) {
        RequestedNetwork network = TRY(parse_network(call, item));
        if (network.port_id && !ports.insert(*network.port_id).second) {
            return Error::invalid("Duplicate ports ({}) are not allowed.", *network.port_id);
        }
        request.networks.push_back(std::move(network));
    }
    return {};
}

// Only what means "boot from the image": volumes come with a later release.
Result<void> parse_block_devices(Fields& fields) {
    for (const char* key : {"block_device_mapping", "block_device_mapping_v2"}) {
        const Json* mapping = fields.take(key);
        if (mapping == nullptr) {
            continue;
        }
        if (!mapping->is_array()) {
            return invalid_input(key, *mapping, "It is not of type 'array'");
        }
        for (const Json& device : mapping->as_array()) {
            const bool from_image = device.string_or("source_type") == "image" &&
                                    device.string_or("destination_type", "local") == "local" &&
                                    device.integer_or("boot_index", 0) == 0;
            if (!from_image) {
                return Error::invalid(
                           "Block Device Mapping is Invalid: this service boots servers from "
                           "images "
                           "only.")
                    .with_hint(fmt::format("Leave {} out and give an imageRef.", key))
                    .with_fault("InvalidBDM");
            }
        }
    }
    return {};
}

Result<void> parse_zone(const Call& call, Fields& fields, CreateServers& request) {
    const auto text = TRY(fields.optional_text("availability_zone", {1, 255}));
    if (!text) {
        return {};
    }
    // "zone", "zone:host" or "zone:host:node"; naming a host is an administrator's right.
    std::vector<std::string> parts;
    size_t start = 0;
    for (size_t colon = text->find(':'); colon != std::string::npos;
         colon = text->find(':', start)) {
        parts.push_back(text->substr(start, colon - start));
        start = colon + 1;
    }
    parts.push_back(text->substr(start));
    if (parts.size() > 3) {
        return Error::invalid("Unable to parse availability_zone");
    }
    if (parts.size() > 1) {
        TRY(call.authorize("os_compute_api:servers:create:forced_host"));
        request.requested_host = parts[1];
        request.requested_node = parts.size() > 2 ? parts[2] : "";
    }
    if (!parts[0].empty()) {
        request.availability_zone = parts[0];
    }
    return {};
}

Result<void> parse_destination(const Call& call, Fields& fields, CreateServers& request) {
    if (!call.at_least(74)) {
        return {};
    }
    const auto host = TRY(fields.optional_text("host", {1, 255}));
    const auto node = TRY(fields.optional_text("hypervisor_hostname", {1, 255}));
    if (!host && !node) {
        return {};
    }
    TRY(call.authorize("compute:servers:create:requested_destination"));
    if (!request.requested_host.empty()) {
        return Error::invalid(
            "One mechanism with host and/or hypervisor_hostname and another "
            "mechanism with availability zone are mutually exclusive.");
    }
    request.requested_host = host.value_or("");
    request.requested_node = node.value_or("");
    return {};
}

Result<void> parse_security_groups(Fields& fields, CreateServers& request) {
    const Json* groups = fields.take("security_groups");
    if (groups == nullptr) {
        return {};
    }
    if (!groups->is_array()) {
        return invalid_input("security_groups", *groups, "It is not of type 'array'");
    }
    request.security_groups.clear();
    for (const Json& item : groups->as_array()) {
        Fields group = TRY(Fields::of(item, "security_groups"));
        const std::string name = TRY(group.name("name"));
        TRY(group.finish());
        if (std::find(request.security_groups.begin(), request.security_groups.end(), name) ==
            request.security_groups.end()) {
            request.security_groups.push_back(name);
        }
    }
    if (request.security_groups.empty()) {
        request.security_groups = {"default"};
    }
    return {};
}

Result<void> parse_hints(Fields& outer, CreateServers& request) {
    for (const char* key : {"os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"}) {
        const Json* hints = outer.take(key);
        if (hints == nullptr) {
            continue;
        }
        Fields fields = TRY(Fields::of(*hints, key));
        if (const auto group = TRY(fields.optional_uuid("group"))) {
            request.server_group = *group;
        }
    }
    return {};
}

Result<void> parse_image_and_flavor(Fields& fields, CreateServers& request) {
    const auto image = TRY(fields.optional_text("imageRef"));
    if (!image || image->empty()) {
        return Error::invalid("Invalid imageRef provided.")
            .with_hint("This service boots servers from images; give the image's id.");
    }
    if (!Uuid::parse(*image)) {
        return invalid_input("imageRef", Json(*image), fmt::format("'{}' is not a 'uuid'", *image));
    }
    request.image_id = Uuid::parse(*image)->text();
    TRY(fields.require("flavorRef"));
    const Json* flavor = fields.take("flavorRef");
    if (const auto number = flavor->to_int64()) {
        request.flavor_id = std::to_string(*number);
        return {};
    }
    request.flavor_id = TRY(fields.text("flavorRef", {1, 255}));
    return {};
}

Result<void> parse_counts(Fields& fields, CreateServers& request) {
    const auto min_count = TRY(fields.optional_integer("min_count", {1, kCountMax}));
    const auto max_count = TRY(fields.optional_integer("max_count", {1, kCountMax}));
    request.min_count = min_count.value_or(1);
    request.max_count = max_count.value_or(request.min_count);
    if (request.min_count > request.max_count) {
        return Error::invalid("min_count must be <= max_count");
    }
    if (request.max_count > 1) {
        for (const RequestedNetwork& network : request.networks) {
            if (network.port_id) {
                return Error::invalid(
                    "Unable to launch multiple instances with a single "
                    "configured port ID. Please launch your instance one by one "
                    "with different ports.");
            }
            if (network.fixed_ip) {
                return Error::invalid(
                    "max_count cannot be greater than 1 if an fixed_ip is "
                    "specified.");
            }
        }
        if (request.hostname) {
            return Error::invalid("Unable to allocate a single hostname to multiple instances");
        }
    }
    return {};
}

Result<void> parse_attributes(const Call& call, Fields& fields, CreateServers& request) {
    request.name = TRY(fields.name("name"));
    request.hostname = TRY(parse_hostname(fields, call.version));
    request.key_name = TRY(fields.optional_text("key_name", {0, 255})).value_or("");
    request.config_drive = TRY(fields.optional_boolean("config_drive")).value_or(false);
    request.auto_disk_config = TRY(parse_disk_config(fields)).value_or(false);
    request.access_ip_v4 = TRY(parse_access_ip(fields, "accessIPv4", 4)).value_or("");
    request.access_ip_v6 = TRY(parse_access_ip(fields, "accessIPv6", 6)).value_or("");
    request.metadata = TRY(fields.optional_metadata("metadata")).value_or(compute::Properties());
    const int64_t items_max =
        call.conductor().quotas().limit(call.who.project_id, "metadata_items");
    if (items_max >= 0 && static_cast<int64_t>(request.metadata.size()) > items_max) {
        return Error::forbidden("Maximum number of metadata items exceeds {}", items_max)
            .with_fault("MetadataLimitExceeded");
    }
    const auto password = TRY(fields.optional_text("adminPass", {0, 255}));
    request.admin_password =
        password && !password->empty() ? *password : generated_password(call.services.random);
    if (call.at_least(19)) {
        request.description = TRY(fields.optional_text("description", {0, 255}));
    }
    if (call.at_least(52)) {
        if (const Json* tags = fields.take("tags")) {
            request.tags = TRY(parse_tags(*tags));
        }
    }
    if (call.at_least(63)) {
        const Json* certificates = fields.take("trusted_image_certificates");
        if (certificates != nullptr && !certificates->is_null()) {
            return Error::invalid("Image signature certificates are not supported here.")
                .with_hint("Leave trusted_image_certificates out.");
        }
    }
    return {};
}

}  // namespace

Result<ParsedCreate> parse_server_create(const Call& call, const Json& body) {
    ParsedCreate parsed;
    CreateServers& request = parsed.servers;
    request.context = call.context();
    Fields outer = TRY(Fields::of(body, "body"));
    TRY(outer.require("server"));
    const Json* server = outer.take("server");
    TRY(parse_hints(outer, request));
    TRY(outer.finish());
    Fields fields = TRY(Fields::of(*server, "server"));
    TRY(parse_attributes(call, fields, request));
    TRY(parse_image_and_flavor(fields, request));
    TRY(parse_block_devices(fields));
    TRY(parse_networks(call, fields, request));
    TRY(parse_security_groups(fields, request));
    request.user_data = TRY(parse_user_data(fields)).value_or("");
    request.injected_files = TRY(parse_personality(call, fields));
    TRY(parse_zone(call, fields, request));
    TRY(parse_destination(call, fields, request));
    TRY(parse_counts(fields, request));
    parsed.return_reservation_id =
        TRY(fields.optional_boolean("return_reservation_id")).value_or(false);
    TRY(fields.finish());
    return parsed;
}

std::string generated_password(Random& random) {
    // Nova's alphabet: nothing that looks like something else.
    constexpr std::string_view alphabet =
        "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    std::string password;
    for (int index = 0; index < 12; ++index) {
        password += alphabet[random.below(alphabet.size())];
    }
    return password;
}

Result<std::optional<std::string>> parse_user_data(Fields& fields) {
    auto text = TRY(fields.optional_text("user_data", {0, kUserDataMax}));
    if (text && !base64_decode(*text)) {
        return invalid_input("user_data", Json(text->substr(0, 40)),
                             "It is not 'base64': user data is sent base64 encoded.");
    }
    return text;
}

Result<std::map<std::string, std::string>> parse_personality(const Call& call, Fields& fields) {
    std::map<std::string, std::string> injected;
    if (call.at_least(57)) {
        return injected;  // not a property any more
    }
    const Json* files = fields.take("personality");
    if (files == nullptr) {
        return injected;
    }
    if (!files->is_array()) {
        return invalid_input("personality", *files, "It is not of type 'array'");
    }
    const auto limits = call.conductor().quotas().limits(call.who.project_id);
    const auto over = [](std::string what) {
        return Error::forbidden("Personality file limit exceeded: {}.", what)
            .with_fault("OnsetFileLimitExceeded");
    };
    const auto above = [&](const char* resource, size_t count) {
        const int64_t limit = limits.at(resource);
        return limit >= 0 && static_cast<int64_t>(count) > limit;
    };
    if (above("injected_files", files->size())) {
        return over(fmt::format("{} files", files->size()));
    }
    for (const Json& item : files->as_array()) {
        Fields file = TRY(Fields::of(item, "personality"));
        const std::string path = TRY(file.text("path", {1, 4096}));
        const auto content = base64_decode(TRY(file.text("contents", {0, 1 << 20})));
        TRY(file.finish());
        if (!content) {
            return Error::invalid("Personality content for {} cannot be decoded", path);
        }
        if (above("injected_file_path_bytes", path.size())) {
            return over(fmt::format("path of {} bytes", path.size()));
        }
        if (above("injected_file_content_bytes", content->size())) {
            return over(fmt::format("{} has {} bytes", path, content->size()));
        }
        injected[path] = *content;
    }
    return injected;
}

Result<std::optional<bool>> parse_disk_config(Fields& fields) {
    const Json* value = fields.take("OS-DCF:diskConfig");
    if (value == nullptr) {
        return std::optional<bool>();
    }
    if (*value == Json("AUTO") || *value == Json("MANUAL")) {
        return std::optional(value->as_string() == "AUTO");
    }
    return invalid_input("OS-DCF:diskConfig", *value, "It is not one of ['AUTO', 'MANUAL']");
}

Result<std::optional<std::string>> parse_access_ip(Fields& fields, std::string_view key,
                                                   int version) {
    const auto address = TRY(fields.optional_text(key));
    if (address && !address->empty() && !is_address(*address, version)) {
        return invalid_input(key, Json(*address),
                             fmt::format("'{}' is not a 'ipv{}'", *address, version));
    }
    return address;
}

Result<std::optional<std::string>> parse_hostname(Fields& fields, Microversion version) {
    if (version.minor < 90) {
        return std::optional<std::string>();
    }
    // From 2.94 on a full name with dots, before one label.
    const bool dots = version.minor >= 94;
    const auto hostname = TRY(fields.optional_text("hostname", {2, dots ? 255u : 63u}));
    if (hostname) {
        const bool legal = std::all_of(hostname->begin(), hostname->end(), [&](char c) {
            return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' ||
                   (dots && c == '.');
        });
        if (!legal || hostname->front() == '-' || hostname->back() == '-') {
            return invalid_input(
                "hostname", Json(*hostname),
                fmt::format("'{}' is not a '{}'", *hostname, dots ? "fqdn" : "hostname"));
        }
    }
    return hostname;
}

Result<std::vector<std::string>> parse_tags(const Json& value) {
    if (!value.is_array()) {
        return invalid_input("tags", value, "It is not of type 'array'");
    }
    if (value.size() > kTagCountMax) {
        return invalid_input(
            "tags", value,
            fmt::format("It is too long ({} tags, {} are allowed)", value.size(), kTagCountMax));
    }
    std::vector<std::string> tags;
    for (const Json& item : value.as_array()) {
        const bool legal = item.is_string() && !item.as_string().empty() &&
                           utf8_length(item.as_string()) <= kTagLengthMax &&
                           item.as_string().find_first_of(",/") == std::string::npos;
        if (!legal) {
            return invalid_input("tags", value,
                                 fmt::format("A tag is text of 1 to {} characters without ',' and "
                                             "'/'.",
                                             kTagLengthMax));
        }
        if (std::find(tags.begin(), tags.end(), item.as_string()) != tags.end()) {
            return invalid_input("tags", value, "It has non-unique elements");
        }
        tags.push_back(item.as_string());
    }
    std::sort(tags.begin(), tags.end());
    return tags;
}

}  // namespace kumoi::api
