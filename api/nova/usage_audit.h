// UsageAudit: once in a period (of [DEFAULT] instance_usage_audit_period) this node tells listeners
// which servers used it in the last whole one (compute.instance.exists and instance.exists), and
// notes in the cloud's task log that it did. Called by one housekeeping thread; blocks.
#pragma once

#include <cstdint>
#include <string>

#include "api/nova/instance_notifications.h"
#include "api/nova/node_records.h"
#include "api/nova/object_client.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"

namespace kumoi::nova {

// Nova's last_completed_audit_period: "hour", "day", "month" or "year", and "@n" to have periods
// begin n minutes, hours, days or months later. InvalidArgument for anything else.
Result<AuditPeriod> last_audit_period(const std::string& unit, int64_t wall_ns);

class UsageAudit {
public:
    struct Borders {
        ObjectClient& objects;
        NodeRecords& node;
        const InstanceNotifications* notifications;
        const Clock& clock;
        Random& random;
    };
    UsageAudit(const Borders& borders, std::string period)
        : borders_(borders), period_(std::move(period)) {}

    // Nothing when it was done for that period.
    Result<void> run();

private:
    const Borders borders_;
    const std::string period_;
    int64_t told_until_ns_ = 0;  // the end of the newest period that the log has
};

}  // namespace kumoi::nova
