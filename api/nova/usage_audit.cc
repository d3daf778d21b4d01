#include "api/nova/usage_audit.h"

#include <charconv>
#include <chrono>

#include "api/nova/oslo_context.h"
#include "base/log.h"

namespace kumoi::nova {
namespace {

using std::chrono::days;
using std::chrono::floor;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::months;
using std::chrono::nanoseconds;
using std::chrono::sys_days;
using std::chrono::year_month;
using std::chrono::year_month_day;
using std::chrono::years;
using Time = std::chrono::sys_time<nanoseconds>;

constexpr char kTask[] = "instance_usage_audit";

int64_t wall(Time time) {
    return time.time_since_epoch().count();
}

AuditPeriod of_months(Time now, int64_t months_each, int64_t first_month, int64_t first_day) {
    const year_month_day today{floor<days>(now)};
    const auto begin_of = [&](year_month month) {
        return Time(sys_days(month / 1)) + days(first_day - 1);
    };
    year_month month{today.year(), months_each == 12
                                       ? std::chrono::month(static_cast<unsigned>(first_month))
                                       : today.month()};
    while (begin_of(month) > now) {
        month -= months(months_each);
    }
    return {wall(begin_of(month - months(months_each))), wall(begin_of(month))};
}

template <class Unit>
AuditPeriod of_duration(Time now, Unit, nanoseconds offset) {
    const Time end = Time(floor<Unit>(now - offset)) + offset;
    return {wall(end - Unit(1)), wall(end)};
}

// As Nova's serialized arguments have a time.
std::string argument_time(int64_t wall_ns) {
    return iso8601(wall_ns).substr(0, 19) + ".000000";
}

}  // namespace

Result<AuditPeriod> last_audit_period(const std::string& unit, int64_t wall_ns) {
    const Time now{nanoseconds(wall_ns)};
    const size_t at = unit.find('@');
    const std::string name = unit.substr(0, at);
    std::optional<int64_t> offset;
    if (at != std::string::npos) {
        int64_t value = 0;
        const char* end = unit.data() + unit.size();
        const auto read = std::from_chars(unit.data() + at + 1, end, value);
        if (read.ec != std::errc() || read.ptr != end) {
            return Error::invalid("'{}' is no audit period: no number follows '@'", unit);
        }
        offset = value;
    }
    const auto within = [&](int64_t least, int64_t most) {
        return !offset || (*offset >= least && *offset <= most);
    };
    if (name == "hour" && within(0, 59)) {
        return of_duration(now, hours(1), minutes(offset.value_or(0)));
    }
    if (name == "day" && within(0, 23)) {
        return of_duration(now, days(1), hours(offset.value_or(0)));
    }
    if (name == "month" && within(1, 28)) {
        return of_months(now, 1, 1, offset.value_or(1));
    }
    if (name == "year" && within(1, 12)) {
        return of_months(now, 12, offset.value_or(1), 1);
    }
    return Error::invalid(
        "'{}' is no audit period: hour, day, month or year, with @ and a minute, an hour, a day up "
        "to 28 or a month",
        unit);
}

Result<void> UsageAudit::run() {
    const AuditPeriod period = TRY(last_audit_period(period_, borders_.clock.wall_ns()));
    if (period.end_ns <= told_until_ns_) {
        return {};
    }
    const std::string& host = borders_.node.host();
    const Json context = admin_context(borders_.clock, borders_.random);
    const auto logged =
        borders_.objects.class_object(context, "TaskLog", "get",
                                      text_arguments({kTask, argument_time(period.begin_ns),
                                                      argument_time(period.end_ns), host}));
    if (logged.ok()) {
        told_until_ns_ = period.end_ns;
        return {};
    }
    if (logged.error().code != ErrorCode::NotFound) {
        return logged.error();
    }
    const auto servers = TRY(borders_.objects.class_objects(
        context, "InstanceList", "_get_active_by_window_joined",
        text_arguments({iso8601(period.begin_ns), iso8601(period.end_ns)}),
        Json::object(
            {{"project_id", nullptr},
             {"host", host},
             {"expected_attrs", Json::array_of(std::vector<std::string>{
                                    "system_metadata", "info_cache", "metadata", "flavor"})},
             {"use_slave", true},
             {"limit", nullptr},
             {"marker", nullptr}})));
    const int64_t started_ns = borders_.clock.monotonic_ns();
    NovaObject log = NovaObject::make(borders_.objects.table(), "TaskLog");
    log.set("task_name", kTask);
    log.set("period_beginning", iso8601(period.begin_ns));
    log.set("period_ending", iso8601(period.end_ns));
    log.set("host", host);
    log.set("task_items", static_cast<int64_t>(servers.size()));
    log.set("message", "");
    TRY(borders_.objects.action(context, log, "begin_task"));
    for (const NovaObject& server : servers) {
        if (borders_.notifications != nullptr && borders_.notifications->wanted()) {
            borders_.notifications->exists(server, context, period);
        }
    }
    const int64_t seconds = (borders_.clock.monotonic_ns() - started_ns) / kNanosPerSecond;
    log.set("errors", 0);
    log.set("message",
            fmt::format("Instance usage audit ran for host {}, {} instances in {} seconds.", host,
                        servers.size(), seconds));
    TRY(borders_.objects.action(context, log, "end_task"));
    log_info("nova", "the use of this host was told", {{"servers", servers.size()}});
    told_until_ns_ = period.end_ns;
    return {};
}

}  // namespace kumoi::nova
