#include "compute/clients/provider_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include "base/file.h"
#include "base/log.h"
#include "base/uuid.h"
#include "compute/clients/yaml_json.h"

namespace kumoi::clients {
namespace {

constexpr size_t kFileMax = 1 << 20;
constexpr char kComputeNode[] = "$COMPUTE_NODE";
constexpr int64_t kUnitMax = 2'147'483'647;  // Placement's

Error refused(const std::string& file, const std::string& why) {
    return Error::invalid("The provider config file {} did not pass validation: {}", file, why)
        .with_hint("See Nova's documentation of provider.yaml; the file is read at start.")
        .with_fault("ProviderConfigException");
}

bool is_name(const std::string& text) {
    return !text.empty() && text.size() <= 255 && std::ranges::all_of(text, [](char letter) {
        return (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
               letter == '_';
    });
}

bool is_custom(const std::string& text) {
    return is_name(text) && text.starts_with("CUSTOM_");
}

// The list `additional` of a member, which may be missing.
Result<Json::Array> additional(const Json& provider, const char* member, const std::string& file) {
    const Json* adjectives = provider.find(member);
    if (adjectives == nullptr) {
        return Json::Array();
    }
    const Json* list = adjectives->is_object() ? adjectives->find("additional") : nullptr;
    if (adjectives->is_object() && list == nullptr) {
        return Json::Array();
    }
    if (list == nullptr || !list->is_array()) {
        return refused(file, fmt::format("'{}' is no mapping with a list 'additional'", member));
    }
    return list->as_array();
}

Result<Inventory> inventory_of(const Json& json, const std::string& name, const std::string& file) {
    static constexpr std::array<std::pair<const char*, int64_t Inventory::*>, 5> kNumbers = {{
        {"total", &Inventory::total},
        {"reserved", &Inventory::reserved},
        {"min_unit", &Inventory::min_unit},
        {"max_unit", &Inventory::max_unit},
        {"step_size", &Inventory::step_size},
    }};
    if (!json.is_object() || !json.contains("total")) {
        return refused(file, fmt::format("'total' of {} is missing", name));
    }
    Inventory inventory;
    inventory.max_unit = kUnitMax;
    for (const auto& [key, value] : json.as_object()) {
        const auto number = std::ranges::find_if(
            kNumbers, [&, &member = key](const auto& one) { return member == one.first; });
        const auto whole = value.to_int64();
        if (number != kNumbers.end() && whole) {
            inventory.*(number->second) = *whole;
        } else if (key == "allocation_ratio" && value.is_number()) {
            inventory.allocation_ratio = value.as_double();
        } else {
            return refused(file, fmt::format("'{}' of {} is unknown or no number", key, name));
        }
    }
    return inventory;
}

Result<std::string> identification_of(const Json& provider, const std::string& file) {
    const Json* ids = provider.find("identification");
    if (ids == nullptr || !ids->is_object() || ids->size() != 1) {
        return refused(file, "a provider's 'identification' is not one uuid or one name");
    }
    const std::string uuid = ids->string_or("uuid");
    const std::string name = ids->string_or("name");
    if (uuid != kComputeNode && !Uuid::parse(uuid) && (name.empty() || name.size() > 200)) {
        return refused(file,
                       "a provider's 'identification' is neither a uuid, $COMPUTE_NODE nor a "
                       "name of 1 to 200 characters");
    }
    return uuid.empty() ? name : uuid;
}

Result<ProviderConfig> provider_of(const Json& json, const std::string& file) {
    if (!json.is_object()) {
        return refused(file, "a provider is no mapping");
    }
    ProviderConfig config;
    config.file = file;
    config.identification = TRY(identification_of(json, file));
    for (const Json& trait : TRY(additional(json, "traits", file))) {
        const std::string name = trait.is_string() ? trait.as_string() : trait.dump();
        if (!is_custom(name)) {
            return refused(file,
                           fmt::format("Invalid traits, only custom traits are allowed: {}", name));
        }
        config.traits.insert(name);
    }
    for (const Json& classes : TRY(additional(json, "inventories", file))) {
        if (!classes.is_object()) {
            return refused(file, "an additional inventory is no mapping");
        }
        for (const auto& [name, inventory] : classes.as_object()) {
            if (!is_custom(name)) {
                return refused(file, fmt::format("Invalid resource class, only custom resource "
                                                 "classes are allowed: {}",
                                                 name));
            }
            config.inventories[name] = TRY(inventory_of(inventory, name, file));
        }
    }
    return config;
}

Result<void> check_version(const Json& document, const std::string& file) {
    const Json* version = document.find_path({"meta", "schema_version"});
    const std::string text = version != nullptr && version->is_string() ? version->as_string() : "";
    if (text.empty()) {
        return refused(file, "Unable to detect schema version: meta.schema_version is no text");
    }
    int minor = 0;
    const char* end = text.data() + text.size();
    const bool major_is_1 = text.starts_with("1.");
    const auto read =
        major_is_1 ? std::from_chars(text.data() + 2, end, minor) : std::from_chars_result{end, {}};
    if (!major_is_1 || read.ec != std::errc() || read.ptr != end) {
        return refused(file, fmt::format("Unsupported schema version: {}", text));
    }
    if (minor != 0) {
        log_warn("clients",
                 "a provider config file is of a newer schema; some of it may be ignored",
                 {{"file", file}, {"schema_version", text}});
    }
    return {};
}

}  // namespace

Result<ProviderConfigs> parse_provider_config(std::string_view text, const std::string& file) {
    auto document = yaml_to_json(text);
    if (!document.ok()) {
        return refused(file, document.error().message);
    }
    TRY(check_version(*document, file));
    ProviderConfigs configs;
    const Json* providers = document->find("providers");
    if (document->contains("__source_file") || (providers != nullptr && !providers->is_array())) {
        return refused(file, "'providers' is no list, or '__source_file' is there");
    }
    for (size_t i = 0; providers != nullptr && i < providers->size(); ++i) {
        ProviderConfig config = TRY(provider_of(providers->as_array()[i], file));
        if (config.traits.empty() && config.inventories.empty()) {
            log_warn("clients",
                     "a provider of a config file has no additional inventories or traits",
                     {{"file", file}, {"provider", config.identification}});
            continue;
        }
        configs.push_back(std::move(config));
    }
    return configs;
}

Result<ProviderConfigs> load_provider_configs(const std::string& folder) {
    std::vector<std::filesystem::path> paths;
    std::error_code failed;
    for (std::filesystem::directory_iterator entry(folder, failed), end; !failed && entry != end;
         entry.increment(failed)) {
        if (entry->path().extension() == ".yaml") {
            paths.push_back(entry->path());
        }
    }
    if (failed && failed != std::errc::no_such_file_or_directory) {
        return refused(folder, failed.message());
    }
    std::ranges::sort(paths);
    ProviderConfigs all;
    for (const auto& path : paths) {
        const std::string file = path.filename();
        auto text = read_file(path, kFileMax);
        if (!text.ok()) {
            return refused(file, text.error().message);
        }
        for (ProviderConfig& config : TRY(parse_provider_config(*text, file))) {
            const auto same =
                std::ranges::find(all, config.identification, &ProviderConfig::identification);
            if (same != all.end()) {
                return refused(file, fmt::format("Provider {} has multiple definitions in source "
                                                 "file(s): {}, {}.",
                                                 config.identification, same->file, file));
            }
            all.push_back(std::move(config));
        }
    }
    return all;
}

Result<std::set<std::string>> merge_provider_configs(const ProviderConfigs& configs,
                                                     WantedProvider& provider) {
    std::set<std::string> ignored;
    const ProviderConfig* named = nullptr;
    const ProviderConfig* general = nullptr;
    for (const ProviderConfig& config : configs) {
        if (config.identification == kComputeNode) {
            general = &config;
        } else if (config.identification != provider.uuid &&
                   config.identification != provider.name) {
            ignored.insert(config.identification);
        } else if (named != nullptr) {
            return Error::conflict(
                       "Provider config '{}' conflicts with provider config '{}'. The same "
                       "provider is specified using both name '{}' and uuid '{}'.",
                       config.file, named->file, provider.name, provider.uuid)
                .with_fault("ValueError");
        } else {
            named = &config;
        }
    }
    if (const ProviderConfig* chosen = named != nullptr ? named : general) {
        for (const auto& [name, inventory] : chosen->inventories) {
            provider.inventories[name] = inventory;
        }
        provider.traits.insert(chosen->traits.begin(), chosen->traits.end());
    }
    return ignored;
}

}  // namespace kumoi::clients
