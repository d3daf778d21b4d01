// What the cloud tells its guest, in OpenStack's layout: from a config drive (an ISO9660 disk
// labelled config-2) or from http://169.254.169.254. Applying it sets the host name and root's SSH
// keys.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "net.h"

enum { kUserDataMax = 65536, kDocumentMax = 65536 };

typedef struct {
    bool found;
    char source[16];  // "config drive" or "metadata"
    char hostname[128];
    char uuid[64];
    size_t keys;
    char user_data[kUserDataMax];
    size_t user_data_size;
    bool has_static;  // network_data.json sets the address: no DHCP
    NetConfig static_net;
} Cloud;

bool cloud_read_config_drive(Cloud* cloud);
bool cloud_read_metadata(Cloud* cloud);
