#include "compute/volumes/connection_info.h"

#include <algorithm>

namespace kumoi::compute {
namespace {

constexpr size_t kTextMax = 4096;
constexpr int64_t kLunMax = 255;  // what libiscsi can address
constexpr size_t kMonitorsMax = 64;
constexpr char kChapSecret[] = "chap";
constexpr char kCephSecret[] = "ceph";

Error bad(std::string why) {
    return Error::invalid("The volume's connection_info cannot be used: {}", why)
        .with_fault("InvalidVolume");
}

Result<std::string> text(const Json& data, std::string_view name) {
    const Json* value = data.find(name);
    if (value == nullptr || !value->is_string() || value->as_string().empty()) {
        return bad(fmt::format("{} is missing", name));
    }
    const std::string& found = value->as_string();
    const auto is_control = [](unsigned char character) { return character < 0x20; };
    if (found.size() > kTextMax || std::ranges::any_of(found, is_control)) {
        return bad(fmt::format("{} has {} bytes or control characters", name, found.size()));
    }
    return found;
}

// `name` of one target, else the first of several paths to it (`name` + "s").
const Json* one_of(const Json& data, const std::string& name) {
    if (const Json* one = data.find(name); one != nullptr && !one->is_null()) {
        return one;
    }
    const Json* several = data.find(name + "s");
    return several != nullptr && several->is_array() && several->size() > 0
               ? &several->as_array().front()
               : nullptr;
}

Result<std::string> target_text(const Json& data, const std::string& name) {
    const Json* found = one_of(data, name);
    const Json alone = Json::object({{name, found == nullptr ? Json() : *found}});
    return text(alone, name);
}

Result<void> add_chap(const Json& data, VolumeSource& source) {
    const std::string method = data.string_or("auth_method");
    if (method.empty()) {
        return {};
    }
    if (method != "CHAP") {
        return bad(fmt::format("authentication by {} is not known", method.substr(0, 32)));
    }
    source.node.set("user", TRY(text(data, "auth_username")));
    source.node.set("password-secret", kChapSecret);
    source.secrets.emplace_back(kChapSecret, TRY(text(data, "auth_password")));
    return {};
}

Result<void> iscsi(const Json& data, const VolumeSourceOptions& options, VolumeSource& source) {
    const std::string portal = TRY(target_text(data, "target_portal"));
    const std::string target = TRY(target_text(data, "target_iqn"));
    const Json* lun = one_of(data, "target_lun");
    const auto number = lun == nullptr ? std::nullopt : lun->to_int64();
    if (!number || *number < 0 || *number > kLunMax) {
        return bad(fmt::format("target_lun is missing or not 0 to {}", kLunMax));
    }
    source.node = Json::object({{"driver", "iscsi"},
                                {"transport", "tcp"},
                                {"portal", portal},
                                {"target", target},
                                {"lun", *number},
                                {"initiator-name", options.initiator}});
    source.place = fmt::format("{} {} {}", portal, target, *number);
    return add_chap(data, source);
}

// "server:/folder", where a server's IPv6 address is in brackets.
Result<std::pair<std::string, std::string>> split_export(const std::string& exported) {
    const size_t colon = exported.find(":/");
    if (colon == 0 || colon == std::string::npos) {
        return bad("export is not SERVER:/FOLDER");
    }
    std::string server = exported.substr(0, colon);
    if (server.size() > 2 && server.front() == '[' && server.back() == ']') {
        server = server.substr(1, server.size() - 2);
    }
    return std::pair(server, exported.substr(colon + 1));
}

Result<void> nfs(const Json& data, const VolumeSourceOptions& options, VolumeSource& source) {
    const auto [server, folder] = TRY(split_export(TRY(text(data, "export"))));
    const std::string name = TRY(text(data, "name"));
    if (name.find('/') != std::string::npos || name == "." || name == "..") {
        return bad("name is not that of a file");
    }
    const std::string format = data.string_or("format", "raw");
    if (format != "raw" && format != "qcow2") {
        return bad(fmt::format("format {} is not raw or qcow2", format.substr(0, 32)));
    }
    const std::string path = folder + (folder.ends_with('/') ? "" : "/") + name;
    Json file = Json::object({{"driver", "nfs"},
                              {"server", Json::object({{"type", "inet"}, {"host", server}})},
                              {"path", path},
                              {"user", options.nfs_user},
                              {"group", options.nfs_group}});
    source.node = format == "raw" ? std::move(file)
                                  : Json::object({{"driver", "qcow2"}, {"file", std::move(file)}});
    source.place = server + ":" + path;
    return {};
}

Result<Json> monitors(const Json& data) {
    Json list = Json::array();
    const Json* hosts = data.find("hosts");
    const Json* ports = data.find("ports");
    if (hosts == nullptr || !hosts->is_array()) {
        return list;
    }
    if (hosts->size() > kMonitorsMax || ports == nullptr || !ports->is_array() ||
        ports->size() != hosts->size()) {
        return bad("hosts and ports do not go together");
    }
    for (size_t i = 0; i < hosts->size(); ++i) {
        const Json& host = hosts->as_array()[i];
        const Json& port = ports->as_array()[i];
        if (!host.is_string()) {
            return bad("a host is not text");
        }
        std::string bare = host.as_string();
        if (bare.size() > 2 && bare.front() == '[' && bare.back() == ']') {
            bare = bare.substr(1, bare.size() - 2);
        }
        list.push_back(Json::object(
            {{"host", bare}, {"port", port.is_string() ? port.as_string() : port.dump()}}));
    }
    return list;
}

Result<void> rbd(const Json& data, const VolumeSourceOptions& options, VolumeSource& source) {
    const std::string name = TRY(text(data, "name"));
    const size_t slash = name.find('/');
    if (slash == 0 || slash == std::string::npos || slash + 1 == name.size()) {
        return bad("name is not POOL/IMAGE");
    }
    const std::string cluster = data.string_or("cluster_name", "ceph");
    if (cluster.empty() || cluster.size() > 64 || cluster.find('/') != std::string::npos) {
        return bad("cluster_name is no name");
    }
    source.node = Json::object(
        {{"driver", "rbd"}, {"pool", name.substr(0, slash)}, {"image", name.substr(slash + 1)}});
    Json servers = TRY(monitors(data));
    if (servers.size() > 0) {
        source.node.set("server", std::move(servers));
    } else {
        source.node.set("conf", options.ceph_folder + "/" + cluster + ".conf");
    }
    source.place = "rbd:" + name;
    if (!data.bool_or("auth_enabled")) {
        return {};
    }
    const std::string user = TRY(text(data, "auth_username"));
    if (user.find('/') != std::string::npos) {
        return bad("auth_username is no name");
    }
    source.node.set("user", user);
    source.node.set("key-secret", kCephSecret);
    const std::string keyring = data.string_or("keyring");
    if (keyring.empty()) {
        source.key_file =
            fmt::format("{}/{}.client.{}.keyring", options.ceph_folder, cluster, user);
    } else {
        source.secrets.emplace_back(kCephSecret, TRY(key_in_keyring(keyring)));
    }
    return {};
}

Result<void> local(const Json& data, VolumeSource& source) {
    const std::string path = TRY(text(data, "device_path"));
    if (path.front() != '/') {
        return bad("device_path is not absolute");
    }
    const bool device = path.starts_with("/dev/");
    source.node = Json::object({{"driver", device ? "host_device" : "file"}, {"filename", path}});
    source.place = path;
    return {};
}

Result<void> fill(const Json& data, const VolumeSourceOptions& options, VolumeSource& source) {
    if (source.type == "iscsi") {
        return iscsi(data, options, source);
    }
    if (source.type == "nfs") {
        return nfs(data, options, source);
    }
    if (source.type == "rbd") {
        return rbd(data, options, source);
    }
    if (source.type == "local") {
        return local(data, source);
    }
    return Error::unsupported("Could not find a handler for {} volume.", source.type.substr(0, 64))
        .with_hint("iscsi, nfs, rbd and local are offered here.")
        .with_fault("VolumeDriverNotFound");
}

}  // namespace

Result<std::string> key_in_keyring(std::string_view keyring) {
    constexpr std::string_view kSpace = " \t";
    while (!keyring.empty()) {
        const size_t end = std::min(keyring.find('\n'), keyring.size());
        std::string_view line = keyring.substr(0, end);
        keyring.remove_prefix(std::min(end + 1, keyring.size()));
        line.remove_prefix(std::min(line.find_first_not_of(kSpace), line.size()));
        if (!line.starts_with("key")) {
            continue;
        }
        const size_t equals = line.find('=');
        if (equals == std::string_view::npos) {
            continue;
        }
        line.remove_prefix(equals + 1);
        line.remove_prefix(std::min(line.find_first_not_of(kSpace), line.size()));
        const size_t last = line.find_last_not_of(" \t\r");
        if (last != std::string_view::npos && last < kTextMax) {
            return std::string(line.substr(0, last + 1));
        }
    }
    return bad("the keyring has no key");
}

Result<VolumeSource> parse_connection_info(const Json& connection_info,
                                           const VolumeSourceOptions& options) {
    if (!connection_info.is_object()) {
        return bad("it is no object");
    }
    const Json* data = connection_info.find("data");
    if (data == nullptr || !data->is_object()) {
        return bad("data is missing");
    }
    if (data->bool_or("encrypted")) {
        return Error::unsupported("Encrypted volumes are not offered here")
            .with_fault("VolumeEncryptionNotSupported");
    }
    VolumeSource source;
    source.type = TRY(text(connection_info, "driver_volume_type"));
    source.read_only = data->string_or("access_mode", "rw") == "ro";
    TRY(fill(*data, options, source));
    if (data->bool_or("discard")) {
        source.node.set("discard", "unmap");
    }
    return source;
}

}  // namespace kumoi::compute
