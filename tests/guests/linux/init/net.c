#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util.h"

static void set_name(struct ifreq* request, const char* interface) {
    memset(request, 0, sizeof *request);
    snprintf(request->ifr_name, IFNAMSIZ, "%s", interface);
}

static bool set_address(int fd, unsigned long operation, const char* interface, uint32_t address) {
    struct ifreq request;
    set_name(&request, interface);
    struct sockaddr_in* inet = (struct sockaddr_in*)&request.ifr_addr;
    inet->sin_family = AF_INET;
    inet->sin_addr.s_addr = address;
    return ioctl(fd, operation, &request) == 0;
}

bool net_up(const char* interface) {
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request;
    set_name(&request, interface);
    bool up = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
    request.ifr_flags |= IFF_UP;
    up = up && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    close(fd);
    return up;
}

static bool add_route(int fd, const char* interface, const Route* route) {
    struct rtentry entry;
    memset(&entry, 0, sizeof entry);
    struct sockaddr_in* fields[] = {(struct sockaddr_in*)&entry.rt_dst,
                                    (struct sockaddr_in*)&entry.rt_genmask,
                                    (struct sockaddr_in*)&entry.rt_gateway};
    const uint32_t values[] = {route->destination & route->netmask, route->netmask, route->gateway};
    for (int i = 0; i < 3; i++) {
        fields[i]->sin_family = AF_INET;
        fields[i]->sin_addr.s_addr = values[i];
    }
    entry.rt_flags = RTF_UP;
    entry.rt_flags |= route->gateway != 0 ? RTF_GATEWAY : 0;
    entry.rt_flags |= route->netmask == 0xffffffffu ? RTF_HOST : 0;
    entry.rt_dev = (char*)interface;
    return ioctl(fd, SIOCADDRT, &entry) == 0 || errno == EEXIST;
}

static void write_resolv_conf(const NetConfig* config) {
    char text[256];
    int used = 0;
    if (config->domain[0] != 0) {
        used += snprintf(text, sizeof text, "search %s\n", config->domain);
    }
    for (size_t i = 0; i < config->name_servers_count; i++) {
        const struct in_addr server = {config->name_servers[i]};
        used +=
            snprintf(text + used, sizeof text - (size_t)used, "nameserver %s\n", inet_ntoa(server));
    }
    write_file("/etc/resolv.conf", text, (size_t)used, 0644);
}

bool net_apply(const char* interface, const NetConfig* config) {
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (config->mtu >= 576) {  // RFC 2132 §5.1 allows 68; less than 576 breaks DHCP itself
        struct ifreq request;
        set_name(&request, interface);
        request.ifr_mtu = (int)config->mtu;
        if (ioctl(fd, SIOCSIFMTU, &request) != 0) {
            say("kumoi-tiny: %s refuses MTU %u", interface, config->mtu);
        }
    }
    bool applied = set_address(fd, SIOCSIFADDR, interface, config->address) &&
                   set_address(fd, SIOCSIFNETMASK, interface, config->netmask);
    // On-link routes first: a gateway must be reachable when its route is added.
    for (int gatewayed = 0; gatewayed < 2; gatewayed++) {
        for (size_t i = 0; i < config->routes_count; i++) {
            if ((config->routes[i].gateway != 0) == gatewayed) {
                applied &= add_route(fd, interface, &config->routes[i]);
            }
        }
    }
    close(fd);
    if (config->name_servers_count > 0) {
        write_resolv_conf(config);
    }
    return applied;
}

void net_remove_address(const char* interface) {
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    set_address(fd, SIOCSIFADDR, interface, 0);
    close(fd);
}

int net_prefix_length(uint32_t netmask) {
    int length = 0;
    for (uint32_t mask = ntohl(netmask); mask & 0x80000000u; mask <<= 1) {
        length++;
    }
    return length;
}

static bool parse_url(const char* url, struct sockaddr_in* address, const char** path) {
    char host[64];
    if (strncmp(url, "http://", 7) != 0) {
        return false;
    }
    const char* slash = strchr(url + 7, '/');
    const size_t length = slash == NULL ? strlen(url + 7) : (size_t)(slash - url - 7);
    if (length >= sizeof host) {
        return false;
    }
    memcpy(host, url + 7, length);
    host[length] = 0;
    char* colon = strchr(host, ':');
    address->sin_family = AF_INET;
    address->sin_port = htons(colon == NULL ? 80 : (uint16_t)atoi(colon + 1));
    if (colon != NULL) {
        *colon = 0;
    }
    *path = slash == NULL ? "/" : slash;
    return inet_aton(host, &address->sin_addr) != 0;
}

static bool wait_for(int fd, short events, int64_t deadline) {
    const int64_t left = deadline - now_ms();
    struct pollfd watched = {fd, events, 0};
    return left > 0 && poll(&watched, 1, (int)left) == 1;
}

// Body size after a 200, -1 otherwise. The reply lies in buffer and ends with a zero.
static ssize_t keep_body(char* buffer, size_t used, const char** reason) {
    char* body = strstr(buffer, "\r\n\r\n");
    if (strncmp(buffer, "HTTP/1.", 7) != 0 || body == NULL) {
        *reason = "no HTTP reply";
        return -1;
    }
    if (strncmp(buffer + 8, " 200", 4) != 0) {
        *reason = "status is not 200";
        return -1;
    }
    body += 4;
    const size_t size = used - (size_t)(body - buffer);
    memmove(buffer, body, size + 1);
    return (ssize_t)size;
}

ssize_t http_get(const char* url, char* body, size_t size, int timeout_ms, const char** reason) {
    struct sockaddr_in address = {0};
    const char* path;
    if (!parse_url(url, &address, &path)) {
        *reason = "bad URL";
        return -1;
    }
    const int64_t deadline = now_ms() + timeout_ms;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    char request[512];
    const int length = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n",
                                path, inet_ntoa(address.sin_addr));
    *reason = "cannot connect";
    ssize_t result = -1;
    size_t used = 0;
    int error = 0;
    socklen_t error_size = sizeof error;
    const int begun = connect(fd, (struct sockaddr*)&address, sizeof address);
    if ((begun != 0 && errno != EINPROGRESS) || !wait_for(fd, POLLOUT, deadline) ||
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) != 0 || error != 0 ||
        length >= (int)sizeof request || write(fd, request, (size_t)length) != length) {
        close(fd);
        return -1;
    }
    *reason = "no complete reply in time";
    while (wait_for(fd, POLLIN, deadline)) {
        const ssize_t got = read(fd, body + used, size - 1 - used);
        if (got > 0) {
            used += (size_t)got;
            if (used < size - 1) {
                continue;
            }
            *reason = "reply too long";
        } else if (got == 0) {
            body[used] = 0;
            result = keep_body(body, used, reason);
        }
        break;
    }
    close(fd);
    return result;
}
