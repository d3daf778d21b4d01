// The guest's network: interface settings by ioctl, a DHCP client (RFC 2131) that never blocks, and
// one blocking HTTP GET with a deadline. IPv4 addresses are in network byte order.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { kRoutesMax = 16, kNameServersMax = 3 };

typedef struct {
    uint32_t destination;
    uint32_t netmask;
    uint32_t gateway;  // 0: on link
} Route;

typedef struct {
    uint32_t address;
    uint32_t netmask;
    uint32_t server;
    uint32_t lease_s;
    uint32_t mtu;  // 0: not told
    Route routes[kRoutesMax];
    size_t routes_count;
    uint32_t name_servers[kNameServersMax];
    size_t name_servers_count;
    char domain[64];
} NetConfig;

bool net_up(const char* interface);
bool net_apply(const char* interface, const NetConfig* config);
void net_remove_address(const char* interface);
int net_prefix_length(uint32_t netmask);

typedef enum { kDhcpSelecting, kDhcpRequesting, kDhcpBound, kDhcpRenewing } DhcpState;

typedef struct {
    const char* interface;
    const char* hostname;
    int fd;
    DhcpState state;
    uint32_t transaction;
    uint8_t mac[6];
    NetConfig offer;
    NetConfig lease;
    bool has_lease;
    int tries;
    int64_t deadline_ms;  // when dhcp_step() wants to be called even if nothing arrives
    int64_t expires_ms;
} Dhcp;

bool dhcp_start(Dhcp* dhcp, const char* interface, const char* hostname);
// Call when fd is readable or deadline_ms has passed. True once for each new or changed lease.
bool dhcp_step(Dhcp* dhcp, int64_t now);

// Body size, or -1 with *reason set. The URL is http://a.b.c.d[:port]/path: no name lookup.
ssize_t http_get(const char* url, char* body, size_t size, int timeout_ms, const char** reason);
