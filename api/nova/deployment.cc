#include "api/nova/deployment.h"

#include <algorithm>

#include "api/nova/node_records.h"
#include "api/nova/object_client.h"
#include "api/nova/oslo_context.h"
#include "base/log.h"

namespace kumoi::nova {
namespace {

constexpr int kQuickTries = 10;
constexpr int64_t kQuickTimeoutMs = 10'000;
constexpr int64_t kPatientTimeoutMs = 60'000;

}  // namespace

Result<void> wait_for_conductor(amqp::RpcClient& rpc, const Clock& clock, Random& random,
                                EventLoop& loop) {
    ObjectClient objects(rpc, ObjectTable::of(Release::Zed));
    for (int tries = 1;; ++tries) {
        const auto answered = ping_conductor(
            objects, clock, random, tries <= kQuickTries ? kQuickTimeoutMs : kPatientTimeoutMs);
        if (answered.ok()) {
            return {};
        }
        loop.run_ready();  // a signal that came meanwhile
        if (loop.stopping()) {
            return Error::cancelled("stopped before a nova-conductor answered");
        }
        log_warn("nova", "no nova-conductor answers; trying again",
                 {{"tries", tries}, {"why", answered.error().text()}});
    }
}

Result<Release> find_release(amqp::RpcClient& rpc, const std::string& name, const Clock& clock,
                             Random& random) {
    if (const auto named = release_by_name(name)) {
        return *named;
    }
    ObjectClient objects(rpc, ObjectTable::of(Release::Zed));
    const auto conductors =
        TRY_CONTEXT(objects.class_objects(admin_context(clock, random), "ServiceList",
                                          "get_by_binary", text_arguments({"nova-conductor"})),
                    "finding the release of nova-conductor");
    int64_t newest = 0;
    for (const NovaObject& service : conductors) {
        newest = std::max(newest, service.integer("version"));
    }
    const Release release = release_of_service_version(newest);
    log_info("nova", "release of this cloud",
             {{"release", facts_of(release).name}, {"service_version", newest}});
    return release;
}

}  // namespace kumoi::nova
