#include "compute/clients/client_options.h"

#include <algorithm>

namespace kumoi::clients {
namespace {

// One option that several sections have; {} in the help is the service's name.
struct Shared {
    const char* name;
    OptionType type;
    const char* default_value;
    const char* help;
    bool secret = false;
};

constexpr auto kText = OptionType::String;

const Shared kSessionOptions[] = {
    {"cafile", OptionType::Path, "",
     "PEM file of the authorities that {}'s certificate is checked against. Empty: the system's."},
    {"certfile", OptionType::Path, "", "PEM file of the client certificate shown to {}."},
    {"keyfile", OptionType::Path, "",
     "PEM file of that certificate's key. Empty: it is in certfile."},
    {"insecure", OptionType::Boolean, "false", "Does not check {}'s certificate. For tests only."},
    {"timeout", OptionType::Integer, "60", "Seconds one request to {} may take. 0: no limit."},
    {"collect_timing", OptionType::Boolean, "false",
     "Accepted for nova.conf's sake and without effect: timings of {} are in the debug log."},
    {"split_loggers", OptionType::Boolean, "false",
     "Accepted for nova.conf's sake and without effect."},
};

const Shared kAuthOptions[] = {
    {"auth_type", kText, "",
     "How we prove to Keystone who we are for {}: password, v3password, v3applicationcredential, "
     "token, v3token or none. Empty: password."},
    {"auth_section", kText, "", "Section that holds the credentials instead of this one."},
    {"auth_url", kText, "",
     "Address of Keystone, with or without /v3. Empty: {} has no credentials of its own."},
    {"username", kText, "", "User name for {}."},
    {"user_name", kText, "", "Older name of username."},
    {"user_id", kText, "", "User id for {}, instead of a name."},
    {"user_domain_name", kText, "", "Domain of the user, by name."},
    {"user_domain_id", kText, "", "Domain of the user, by id."},
    {"default_domain_name", kText, "", "Domain of user and project where neither names its own."},
    {"default_domain_id", kText, "", "Domain id of user and project where neither names its own."},
    {"password", kText, "", "Password of the user.", true},
    {"project_name", kText, "", "Project the token is for, by name."},
    {"project_id", kText, "", "Project the token is for, by id."},
    {"tenant_name", kText, "", "Older name of project_name."},
    {"tenant_id", kText, "", "Older name of project_id."},
    {"project_domain_name", kText, "", "Domain of the project, by name."},
    {"project_domain_id", kText, "", "Domain of the project, by id."},
    {"domain_name", kText, "", "Domain the token is for, by name, instead of a project."},
    {"domain_id", kText, "", "Domain the token is for, by id, instead of a project."},
    {"system_scope", kText, "", "\"all\" for a token of the whole system instead of a project."},
    {"trust_id", kText, "", "Trust the token is for."},
    {"application_credential_id", kText, "", "Id of the application credential."},
    {"application_credential_name", kText, "", "Name of the user's application credential."},
    {"application_credential_secret", kText, "", "Secret of the application credential.", true},
    {"token", kText, "", "Token that is exchanged for one of our own (auth_type token).", true},
};

const Shared kAdapterOptions[] = {
    {"service_type", kText, "", "Type of {} in the catalog. Empty: its usual one."},
    {"service_name", kText, "", "Name of {} in the catalog. Empty: any."},
    {"valid_interfaces", OptionType::List, "internal,public",
     "Interfaces of {} in the catalog; the first found is used."},
    {"region_name", kText, "", "Region of {} in the catalog. Empty: any."},
    {"endpoint_override", kText, "", "Address of {} instead of the catalog's."},
    {"connect_retries", OptionType::Integer, "3",
     "How often a request to {} is repeated when no connection comes about or it breaks."},
    {"connect_retry_delay", OptionType::Float, "0.5",
     "Seconds before the first repetition; each next one may wait twice as long."},
    {"status_code_retries", OptionType::Integer, "3",
     "How often a request to {} is repeated when it answers 429, 502, 503 or 504."},
    {"status_code_retry_delay", OptionType::Float, "0.5",
     "Seconds before the first repetition after such an answer."},
};

template <size_t count>
void add_shared(std::vector<Option>& table, const std::string& section, const std::string& service,
                const Shared (&shared)[count]) {
    for (const Shared& one : shared) {
        std::string help = one.help;
        if (const size_t place = help.find("{}"); place != std::string::npos) {
            help.replace(place, 2, service);
        }
        table.push_back({.section = section,
                         .name = one.name,
                         .type = one.type,
                         .default_value = one.default_value,
                         .help = help,
                         .secret = one.secret});
    }
}

void add_own(std::vector<Option>& table) {
    const auto add = [&](const char* section, const char* name, OptionType type, const char* value,
                         const char* help) {
        table.push_back({section, name, type, value, help});
    };
    add("compute", "resource_provider_association_refresh", OptionType::Integer, "300",
        "Seconds after which inventory, traits and aggregates of our resource providers are read "
        "again from Placement. 0: never.");
    add("neutron", "http_retries", OptionType::Integer, "3",
        "Older name of connect_retries for Neutron; the larger one counts.");
    add("neutron", "extension_sync_interval", OptionType::Integer, "600",
        "Seconds for which the list of Neutron's extensions is remembered.");
    add("neutron", "ovs_bridge", OptionType::String, "br-int",
        "Integration bridge of ports whose binding details name none.");
    add("glance", "num_retries", OptionType::Integer, "3",
        "How often a request to Glance is repeated.");
    add("glance", "api_servers", OptionType::List, "",
        "Addresses of Glance; the first is used. Older form of endpoint_override.");
    add("glance", "download_streams", OptionType::Integer, "4",
        "Connections that fetch one image at the same time, each a range of it. 1: one stream.");
    add("glance", "download_range_mb", OptionType::Integer, "8",
        "MiB of one range of a parallel image download; with the streams it bounds the memory "
        "used.");
    add("cinder", "http_retries", OptionType::Integer, "3",
        "Older name of connect_retries for Cinder; the larger one counts.");
    add("cinder", "catalog_info", OptionType::String, "",
        "Type, name and interface of Cinder in the catalog, \"type:name:interface\". Empty: "
        "block-storage (or volumev3), any name, valid_interfaces.");
    add("cinder", "endpoint_template", OptionType::String, "",
        "Address of Cinder with %(project_id)s in it, instead of the catalog's.");
    add("cinder", "os_region_name", OptionType::String, "", "Region of Cinder in the catalog.");
    add("service_user", "send_service_user_token", OptionType::Boolean, "false",
        "Sends a token of this section's user along with each user's token, so that long tasks "
        "outlive the user's token and Cinder lets volumes be detached (CVE-2023-2088).");
    add("keystone_authtoken", "www_authenticate_uri", OptionType::String, "",
        "Address of Keystone told to clients of our own APIs.");
    add("keystone_authtoken", "region_name", OptionType::String, "",
        "Region of Keystone in the catalog.");
}

std::string either(std::string first, const std::string& second) {
    return first.empty() ? second : first;
}

std::string interface_name(std::string text) {  // "internalURL" of older files
    if (text.ends_with("URL")) {
        text.resize(text.size() - 3);
    }
    return text;
}

void take_catalog_info(const std::string& info, ServiceOptions& options) {
    const size_t first = info.find(':');
    const size_t second = first == std::string::npos ? first : info.find(':', first + 1);
    if (second == std::string::npos) {
        return;
    }
    options.service_type = info.substr(0, first);
    options.service_name = info.substr(first + 1, second - first - 1);
    options.interfaces = {interface_name(info.substr(second + 1))};
}

void take_service_specials(const Config& config, const std::string& section,
                           ServiceOptions& options) {
    int64_t retries = options.retries.attempts_max - 1;
    if (section == "neutron" || section == "cinder") {
        retries = std::max(retries, config.integer(section, "http_retries"));
    }
    if (section == "glance") {
        retries = std::max(retries, config.integer(section, "num_retries"));
        const auto servers = config.list(section, "api_servers");
        if (options.endpoint_override.empty() && !servers.empty()) {
            options.endpoint_override = servers.front();
        }
    }
    if (section == "cinder") {
        options.version_service = "volume";
        take_catalog_info(config.string(section, "catalog_info"), options);
        options.region_name = either(config.string(section, "os_region_name"), options.region_name);
        options.endpoint_override =
            either(config.string(section, "endpoint_template"), options.endpoint_override);
    }
    if (section == "placement") {
        options.version_service = "placement";
    }
    options.retries.attempts_max = static_cast<int>(std::clamp<int64_t>(retries + 1, 1, 100));
}

std::string default_type(const std::string& section) {
    if (section == "neutron") {
        return "network";
    }
    if (section == "glance") {
        return "image";
    }
    return section == "cinder" ? "block-storage" : section;
}

}  // namespace

AuthOptions AuthOptions::from_config(const Config& config, const std::string& section) {
    const std::string place = either(config.string(section, "auth_section"), section);
    const auto text = [&](const char* name) { return config.string(place, name); };
    AuthOptions options;
    options.section = section;
    options.auth_type = either(text("auth_type"), "password");
    options.auth_url = text("auth_url");
    options.username = either(text("username"), text("user_name"));
    options.user_id = text("user_id");
    options.user_domain_id = either(text("user_domain_id"), text("default_domain_id"));
    options.user_domain_name = either(text("user_domain_name"), text("default_domain_name"));
    options.password = text("password");
    options.project_name = either(text("project_name"), text("tenant_name"));
    options.project_id = either(text("project_id"), text("tenant_id"));
    options.project_domain_id = either(text("project_domain_id"), text("default_domain_id"));
    options.project_domain_name = either(text("project_domain_name"), text("default_domain_name"));
    options.domain_name = text("domain_name");
    options.domain_id = text("domain_id");
    options.system_scope = text("system_scope");
    options.trust_id = text("trust_id");
    options.application_credential_id = text("application_credential_id");
    options.application_credential_name = text("application_credential_name");
    options.application_credential_secret = text("application_credential_secret");
    options.token = text("token");
    return options;
}

ServiceOptions ServiceOptions::from_config(const Config& config, const std::string& section) {
    ServiceOptions options;
    options.service_type = either(config.string(section, "service_type"), default_type(section));
    options.service_name = config.string(section, "service_name");
    options.interfaces.clear();
    for (const std::string& name : config.list(section, "valid_interfaces")) {
        options.interfaces.push_back(interface_name(name));
    }
    options.region_name = config.string(section, "region_name");
    options.endpoint_override = config.string(section, "endpoint_override");
    const int64_t retries = std::max(config.integer(section, "connect_retries"),
                                     config.integer(section, "status_code_retries"));
    options.retries.attempts_max = static_cast<int>(std::clamp<int64_t>(retries + 1, 1, 100));
    const double delay_s = std::max(config.floating(section, "connect_retry_delay"),
                                    config.floating(section, "status_code_retry_delay"));
    options.retries.first_wait_ms = static_cast<int64_t>(std::clamp(delay_s * 1000, 1.0, 60'000.0));
    take_service_specials(config, section, options);
    return options;
}

HttpClientOptions http_options_from_config(const Config& config, const std::string& section) {
    HttpClientOptions options;
    options.tls.ca_file = config.string(section, "cafile");
    options.tls.cert_file = config.string(section, "certfile");
    options.tls.key_file = config.string(section, "keyfile");
    options.tls.insecure = config.boolean(section, "insecure");
    options.timeout_ms = config.integer(section, "timeout") * 1000;
    return options;
}

std::vector<Option> client_option_table() {
    static const std::pair<const char*, const char*> kServices[] = {{"placement", "Placement"},
                                                                    {"neutron", "Neutron"},
                                                                    {"glance", "Glance"},
                                                                    {"cinder", "Cinder"}};
    std::vector<Option> table;
    for (const auto& [section, service] : kServices) {
        add_shared(table, section, service, kAuthOptions);
        add_shared(table, section, service, kAdapterOptions);
        add_shared(table, section, service, kSessionOptions);
    }
    for (const char* section : {"service_user", "keystone_authtoken"}) {
        add_shared(table, section, "Keystone", kAuthOptions);
        add_shared(table, section, "Keystone", kSessionOptions);
    }
    add_own(table);
    return table;
}

}  // namespace kumoi::clients
