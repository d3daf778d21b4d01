#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"
#include "util.h"

// RFC 2131 §2, figure 1.
typedef struct __attribute__((packed)) {
    uint8_t op, htype, hlen, hops;
    uint32_t xid;
    uint16_t secs, flags;
    uint32_t ciaddr, yiaddr, siaddr, giaddr;
    uint8_t chaddr[16];
    uint8_t sname[64];
    uint8_t file[128];
    uint32_t cookie;
    uint8_t options[312];
} Message;

enum {
    kOptionNetmask = 1,
    kOptionRouter = 3,
    kOptionNameServer = 6,
    kOptionHostName = 12,
    kOptionDomain = 15,
    kOptionMtu = 26,
    kOptionRequestedAddress = 50,
    kOptionLeaseTime = 51,
    kOptionMessageType = 53,
    kOptionServerId = 54,
    kOptionParameters = 55,
    kOptionClasslessRoutes = 121,  // RFC 3442
    kDiscover = 1,
    kOffer = 2,
    kRequest = 3,
    kAck = 5,
    kNak = 6,
    kMaxWait = 16000,
};
static const uint32_t kCookie = 0x63825363;

static uint8_t* put(uint8_t* at, uint8_t code, const void* bytes, size_t size) {
    *at++ = code;
    *at++ = (uint8_t)size;
    memcpy(at, bytes, size);
    return at + size;
}

static void send_message(Dhcp* dhcp, uint8_t type) {
    Message message = {.op = 1, .htype = 1, .hlen = 6, .cookie = htonl(kCookie)};
    message.xid = dhcp->transaction;
    memcpy(message.chaddr, dhcp->mac, sizeof dhcp->mac);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(67)};
    to.sin_addr.s_addr = INADDR_BROADCAST;
    uint8_t* at = put(message.options, kOptionMessageType, &type, 1);
    if (dhcp->state == kDhcpRenewing) {
        message.ciaddr = dhcp->lease.address;
        if (dhcp->tries < 3) {  // then any server may answer (rebinding)
            to.sin_addr.s_addr = dhcp->lease.server;
        }
    } else {
        message.flags = htons(0x8000);  // answers by broadcast: we have no address yet
        if (type == kRequest) {
            at = put(at, kOptionRequestedAddress, &dhcp->offer.address, 4);
            at = put(at, kOptionServerId, &dhcp->offer.server, 4);
        }
    }
    const size_t name = strlen(dhcp->hostname);
    if (name > 0 && name < 64) {
        at = put(at, kOptionHostName, dhcp->hostname, name);
    }
    static const uint8_t wanted[] = {kOptionNetmask,    kOptionClasslessRoutes, kOptionRouter,
                                     kOptionNameServer, kOptionDomain,          kOptionMtu};
    at = put(at, kOptionParameters, wanted, sizeof wanted);
    *at = 255;
    sendto(dhcp->fd, &message, sizeof message, 0, (struct sockaddr*)&to, sizeof to);
}

static void add_route(NetConfig* config, uint32_t destination, uint32_t netmask, uint32_t gateway) {
    if (config->routes_count < kRoutesMax) {
        config->routes[config->routes_count++] = (Route){destination, netmask, gateway};
    }
}

static void read_classless_routes(NetConfig* config, const uint8_t* at, size_t size) {
    const uint8_t* end = at + size;
    while (at < end && *at <= 32) {
        const unsigned prefix = *at++;
        const size_t bytes = (prefix + 7) / 8;
        if ((size_t)(end - at) < bytes + 4) {
            return;
        }
        uint32_t destination = 0;
        uint32_t gateway;
        memcpy(&destination, at, bytes);
        memcpy(&gateway, at + bytes, 4);
        add_route(config, destination, prefix == 0 ? 0 : htonl(~0u << (32 - prefix)), gateway);
        at += bytes + 4;
    }
}

// Fills config from the options; returns the message type, 0 for nonsense.
static uint8_t read_options(const Message* message, size_t size, NetConfig* config) {
    uint8_t type = 0;
    uint32_t router = 0;
    bool classless = false;
    const uint8_t* at = message->options;
    const uint8_t* end = (const uint8_t*)message + size;
    while (at < end && *at != 255) {
        if (*at == 0) {
            at++;
            continue;
        }
        if (end - at < 2 || end - at - 2 < at[1]) {
            return 0;
        }
        const uint8_t code = at[0];
        const uint8_t length = at[1];
        const uint8_t* value = at + 2;
        at = value + length;
        uint32_t word = 0;
        memcpy(&word, value, length < 4 ? length : 4);
        switch (code) {
            case kOptionMessageType: type = length == 1 ? value[0] : 0; break;
            case kOptionNetmask: config->netmask = word; break;
            case kOptionRouter: router = word; break;
            case kOptionServerId: config->server = word; break;
            case kOptionLeaseTime: config->lease_s = ntohl(word); break;
            case kOptionMtu:
                config->mtu = length == 2 ? (uint32_t)(value[0] << 8 | value[1]) : 0;
                break;
            case kOptionDomain:
                if (length < sizeof config->domain) {
                    memcpy(config->domain, value, length);
                }
                break;
            case kOptionNameServer:
                for (size_t i = 0; i < length / 4u && i < kNameServersMax; i++) {
                    memcpy(&config->name_servers[i], value + 4 * i, 4);
                    config->name_servers_count = i + 1;
                }
                break;
            case kOptionClasslessRoutes:
                classless = true;
                read_classless_routes(config, value, length);
                break;
            default: break;
        }
    }
    if (router != 0 && !classless) {  // RFC 3442: with option 121, option 3 is ignored
        add_route(config, 0, 0, router);
    }
    return type;
}

static uint8_t receive(Dhcp* dhcp, NetConfig* config) {
    Message message;
    const ssize_t size = recv(dhcp->fd, &message, sizeof message, MSG_DONTWAIT);
    if (size < (ssize_t)offsetof(Message, options) || message.op != 2 ||
        message.xid != dhcp->transaction || message.cookie != htonl(kCookie) ||
        memcmp(message.chaddr, dhcp->mac, sizeof dhcp->mac) != 0) {
        return 0;
    }
    memset(config, 0, sizeof *config);
    const uint8_t type = read_options(&message, (size_t)size, config);
    config->address = message.yiaddr;
    if (config->netmask == 0) {
        config->netmask = htonl(0xffffff00);
    }
    return type;
}

static void send_and_wait(Dhcp* dhcp, int64_t now) {
    send_message(dhcp, dhcp->state == kDhcpSelecting ? kDiscover : kRequest);
    int64_t wait = 1000LL << (dhcp->tries < 4 ? dhcp->tries : 4);  // 1, 2, 4, 8, 16 s
    dhcp->tries++;
    dhcp->deadline_ms = now + (wait > kMaxWait ? kMaxWait : wait);
}

static void enter(Dhcp* dhcp, DhcpState state, int64_t now) {
    dhcp->state = state;
    dhcp->tries = 0;
    if (state == kDhcpSelecting || state == kDhcpRenewing) {
        dhcp->transaction++;
    }
    if (state != kDhcpBound) {
        send_and_wait(dhcp, now);
    }
}

bool dhcp_start(Dhcp* dhcp, const char* interface, const char* hostname) {
    memset(dhcp, 0, sizeof *dhcp);
    dhcp->interface = interface;
    dhcp->hostname = hostname;
    dhcp->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(68)};
    struct ifreq request;
    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, IFNAMSIZ, "%s", interface);
    if (ioctl(dhcp->fd, SIOCGIFHWADDR, &request) != 0 ||
        setsockopt(dhcp->fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) != 0 ||
        setsockopt(dhcp->fd, SOL_SOCKET, SO_BINDTODEVICE, interface,
                   (socklen_t)strlen(interface) + 1) != 0 ||
        bind(dhcp->fd, (struct sockaddr*)&any, sizeof any) != 0) {
        close(dhcp->fd);
        dhcp->fd = -1;
        return false;
    }
    memcpy(dhcp->mac, request.ifr_hwaddr.sa_data, sizeof dhcp->mac);
    if (getrandom(&dhcp->transaction, sizeof dhcp->transaction, GRND_NONBLOCK) < 0) {
        memcpy(&dhcp->transaction, dhcp->mac + 2, 4);
    }
    enter(dhcp, kDhcpSelecting, now_ms());
    return true;
}

static bool accept_lease(Dhcp* dhcp, const NetConfig* config, int64_t now) {
    const bool changed = !dhcp->has_lease || memcmp(&dhcp->lease, config, sizeof *config) != 0;
    dhcp->lease = *config;
    dhcp->has_lease = true;
    // A lease of 0xffffffff never ends (RFC 2131 §3.3); half of a day is often enough to ask again.
    const int64_t lease_ms = (config->lease_s < 60 ? 60 : (int64_t)config->lease_s) * 1000;
    dhcp->expires_ms = now + lease_ms;
    enter(dhcp, kDhcpBound, now);
    dhcp->deadline_ms = now + lease_ms / 2;
    return changed;
}

bool dhcp_step(Dhcp* dhcp, int64_t now) {
    NetConfig config;
    const uint8_t type = receive(dhcp, &config);
    if (type == kOffer && dhcp->state == kDhcpSelecting) {
        dhcp->offer = config;
        enter(dhcp, kDhcpRequesting, now);
    } else if (type == kAck && (dhcp->state == kDhcpRequesting || dhcp->state == kDhcpRenewing)) {
        return accept_lease(dhcp, &config, now);
    } else if (type == kNak && dhcp->state != kDhcpSelecting) {
        dhcp->expires_ms = now;
        enter(dhcp, kDhcpSelecting, now);
    } else if (now >= dhcp->deadline_ms) {
        if (dhcp->has_lease && now >= dhcp->expires_ms) {
            net_remove_address(dhcp->interface);
            dhcp->has_lease = false;
            enter(dhcp, kDhcpSelecting, now);
        } else if (dhcp->state == kDhcpBound) {
            enter(dhcp, kDhcpRenewing, now);
        } else if (dhcp->state == kDhcpRequesting && dhcp->tries >= 4) {
            enter(dhcp, kDhcpSelecting, now);
        } else {
            send_and_wait(dhcp, now);
        }
    }
    return false;
}
