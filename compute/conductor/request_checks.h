// What several verbs check in the same words: quota lines and what the record keeps of an image.
// Pure; defined in create_servers.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct QuotaLine {
    std::string resource;
    int64_t per_server;
    int64_t used;
    int64_t limit;
};

// Forbidden, fault TooManyInstances, in Nova's sentence.
Error quota_exceeded(const std::vector<QuotaLine>& over, int64_t count);

// Nova's image_* keys of system_metadata, from instance.image.
void set_image_metadata(Instance& instance);

}  // namespace kumoi::compute
