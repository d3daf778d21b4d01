#include "cloud.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"
#include "util.h"

static const char kMountPoint[] = "/run/config";
static const char kMetadata[] = "http://169.254.169.254/openstack/latest/";
enum { kMetadataTries = 3, kMetadataTimeoutMs = 5000, kKeysMax = 32 };

static char document[kDocumentMax];

static void install_keys(Cloud* cloud, JsonValue meta) {
    JsonValue keys;
    if (!json_member(meta, "public_keys", &keys)) {
        return;
    }
    static char text[kDocumentMax];
    size_t used = 0;
    JsonValue key;
    for (size_t i = 0; i < kKeysMax && json_member_at(keys, i, &key); i++) {
        if (!json_string(key, text + used, sizeof text - used - 1)) {
            continue;
        }
        used += strlen(text + used);
        if (used > 0 && text[used - 1] != '\n') {
            text[used++] = '\n';
        }
        cloud->keys++;
    }
    mkdir("/root/.ssh", 0700);
    if (cloud->keys > 0 && write_file("/root/.ssh/authorized_keys", text, used, 0600) != 0) {
        say("kumoi-tiny: cannot write /root/.ssh/authorized_keys");
    }
}

static bool apply_meta_data(Cloud* cloud, const char* source, size_t size) {
    const JsonValue meta = json_text(document, size);
    JsonValue value;
    if (!json_member(meta, "uuid", &value) ||
        !json_string(value, cloud->uuid, sizeof cloud->uuid)) {
        return false;
    }
    cloud->found = true;
    snprintf(cloud->source, sizeof cloud->source, "%s", source);
    if ((json_member(meta, "hostname", &value) || json_member(meta, "name", &value)) &&
        json_string(value, cloud->hostname, sizeof cloud->hostname)) {
        cloud->hostname[strcspn(cloud->hostname, ".")] = 0;
        if (sethostname(cloud->hostname, strlen(cloud->hostname)) != 0) {
            say("kumoi-tiny: the host name %s is refused", cloud->hostname);
        }
        write_file("/etc/hostname", cloud->hostname, strlen(cloud->hostname), 0644);
    }
    install_keys(cloud, meta);
    return true;
}

static bool string_of(JsonValue object, const char* key, char* out, size_t size) {
    JsonValue value;
    return json_member(object, key, &value) && json_string(value, out, size);
}

static bool address_of(JsonValue object, const char* key, uint32_t* address) {
    char text[32];
    struct in_addr parsed;
    if (!string_of(object, key, text, sizeof text)) {
        return false;
    }
    text[strcspn(text, "/")] = 0;
    if (inet_aton(text, &parsed) == 0) {
        return false;
    }
    *address = parsed.s_addr;
    return true;
}

// The first IPv4 network of network_data.json when it is a static one.
static void read_network_data(Cloud* cloud, size_t size) {
    JsonValue networks, network, routes, route, services, service;
    const JsonValue root = json_text(document, size);
    char type[32];
    NetConfig* config = &cloud->static_net;
    if (!json_member(root, "networks", &networks) || !json_element(networks, 0, &network) ||
        !string_of(network, "type", type, sizeof type) || strcmp(type, "ipv4") != 0 ||
        !address_of(network, "ip_address", &config->address) ||
        !address_of(network, "netmask", &config->netmask)) {
        return;
    }
    cloud->has_static = true;
    if (json_member(network, "routes", &routes)) {
        for (size_t i = 0; i < kRoutesMax && json_element(routes, i, &route); i++) {
            Route* to = &config->routes[config->routes_count];
            if (address_of(route, "network", &to->destination) &&
                address_of(route, "netmask", &to->netmask) &&
                address_of(route, "gateway", &to->gateway)) {
                config->routes_count++;
            }
        }
    }
    if (json_member(root, "services", &services)) {
        for (size_t i = 0; i < kNameServersMax && json_element(services, i, &service); i++) {
            config->name_servers_count +=
                address_of(service, "address", &config->name_servers[config->name_servers_count]);
        }
    }
}

// ISO 9660 §8.4: the primary volume descriptor is sector 16; its volume identifier is at byte 40.
static bool is_config_drive(const char* device) {
    char sector[2048] = {0};
    const int fd = open(device, O_RDONLY | O_CLOEXEC);
    const bool got = fd >= 0 && pread(fd, sector, sizeof sector, 32768) == (ssize_t)sizeof sector;
    if (fd >= 0) {
        close(fd);
    }
    return got && memcmp(sector + 1, "CD001", 5) == 0 &&
           (memcmp(sector + 40, "config-2", 8) == 0 || memcmp(sector + 40, "CONFIG-2", 8) == 0);
}

static ssize_t read_document(const char* name) {
    char path[128];
    snprintf(path, sizeof path, "%s/openstack/latest/%s", kMountPoint, name);
    return read_file(path, document, sizeof document);
}

static void keep_user_data(Cloud* cloud, ssize_t size) {
    if (size > 0 && (size_t)size < sizeof cloud->user_data) {
        memcpy(cloud->user_data, document, (size_t)size);
        cloud->user_data_size = (size_t)size;
    }
}

bool cloud_read_config_drive(Cloud* cloud) {
    char device[] = "/dev/vdb";
    for (; device[7] <= 'z' && !cloud->found; device[7]++) {
        if (access(device, F_OK) != 0) {
            break;
        }
        if (!is_config_drive(device)) {
            continue;
        }
        mkdir(kMountPoint, 0700);
        if (mount(device, kMountPoint, "iso9660", MS_RDONLY | MS_NOSUID | MS_NODEV, "") != 0) {
            say("kumoi-tiny: config drive %s cannot be mounted", device);
            continue;
        }
        ssize_t size = read_document("meta_data.json");
        if (size > 0 && apply_meta_data(cloud, "config drive", (size_t)size)) {
            keep_user_data(cloud, read_document("user_data"));
            size = read_document("network_data.json");
            if (size > 0) {
                read_network_data(cloud, (size_t)size);
            }
        }
        umount(kMountPoint);
    }
    return cloud->found;
}

bool cloud_read_metadata(Cloud* cloud) {
    char url[128];
    const char* reason = "";
    snprintf(url, sizeof url, "%smeta_data.json", kMetadata);
    for (int i = 0; i < kMetadataTries && !cloud->found; i++) {
        const ssize_t size = http_get(url, document, sizeof document, kMetadataTimeoutMs, &reason);
        if (size > 0 && !apply_meta_data(cloud, "metadata", (size_t)size)) {
            reason = "not a meta_data.json";
        }
    }
    if (!cloud->found) {
        say("kumoi-tiny: no metadata at 169.254.169.254: %s", reason);
        return false;
    }
    snprintf(url, sizeof url, "%suser_data", kMetadata);
    keep_user_data(cloud, http_get(url, document, sizeof document, kMetadataTimeoutMs, &reason));
    return true;
}
