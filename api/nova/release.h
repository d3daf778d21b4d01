// Which OpenStack release's objects and versions this node speaks: the one of the deployment's
// nova-conductor. Facts: nova/objects/service.py, nova/compute/rpcapi.py of each release.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace kumoi::nova {

enum class Release { Zed, Gazpacho };

struct ReleaseFacts {
    Release release;
    std::string_view name;    // what the option [kumoi] release says
    int64_t service_version;  // Service.version, what the whole cell's features follow
    int64_t service_floor;    // older computes are refused by this release
};

constexpr ReleaseFacts kReleases[] = {
    {Release::Zed, "zed", 64, 61},
    {Release::Gazpacho, "2026.1", 72, 68},
};

constexpr const ReleaseFacts& facts_of(Release release) {
    return kReleases[static_cast<int>(release)];
}

// The newest release whose service version is not above `version`; Zed below that.
constexpr Release release_of_service_version(int64_t version) {
    return version >= kReleases[1].service_version ? Release::Gazpacho : Release::Zed;
}

constexpr std::optional<Release> release_by_name(std::string_view name) {
    for (const ReleaseFacts& facts : kReleases) {
        if (facts.name == name) {
            return facts.release;
        }
    }
    return std::nullopt;
}

}  // namespace kumoi::nova
