#include "hypervisor/limits/limits.h"

#include <algorithm>
#include <string>
#include <vector>

#include "hypervisor/limits/token_bucket_core.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kLengthMax = 3600;  // seconds; a rate for so long still fits a bucket
static_assert(KUMOI_TOKEN_RATE_MAX * kLengthMax < uint64_t{1} << 63);
constexpr int64_t kRateMax = static_cast<int64_t>(KUMOI_TOKEN_RATE_MAX);

struct NamedLimit {
    const char* name;
    RateLimit DiskLimits::*limit;
};
constexpr NamedLimit kDiskLimits[] = {
    {"total_bytes_sec", &DiskLimits::total_bytes}, {"read_bytes_sec", &DiskLimits::read_bytes},
    {"write_bytes_sec", &DiskLimits::write_bytes}, {"total_iops_sec", &DiskLimits::total_iops},
    {"read_iops_sec", &DiskLimits::read_iops},     {"write_iops_sec", &DiskLimits::write_iops}};
constexpr char kIopsSize[] = "size_iops_sec";

Result<void> check_rate(const RateLimit& limit) {
    if (limit.average > KUMOI_TOKEN_RATE_MAX || limit.maximum > KUMOI_TOKEN_RATE_MAX) {
        return Error::invalid("a limit of {} a second is above {}",
                              std::max(limit.average, limit.maximum), KUMOI_TOKEN_RATE_MAX);
    }
    if (limit.maximum != 0 && limit.maximum < limit.average) {
        return Error::invalid("a burst of {} a second is below the average of {}", limit.maximum,
                              limit.average)
            .with_hint("leave the burst out, or raise it");
    }
    if (limit.average == 0 && (limit.maximum != 0 || limit.burst != 0)) {
        return Error::invalid("a burst of {} needs an average to fall back to",
                              std::max(limit.maximum, limit.burst));
    }
    if (limit.length == 0 || limit.length > kLengthMax) {
        return Error::invalid("a burst of {} seconds is not from 1 to {}", limit.length,
                              kLengthMax);
    }
    if (limit.length > 1 && limit.maximum == 0) {
        return Error::invalid("a burst of {} seconds has no rate", limit.length);
    }
    return {};
}

Result<uint64_t> number(const JsonView& view, const std::string& key, uint64_t other) {
    return static_cast<uint64_t>(
        TRY(view.integer_or(key, static_cast<int64_t>(other), {0, kRateMax})));
}

Result<RateLimit> parse_rate(const JsonView& view, const std::string& name) {
    RateLimit limit;
    limit.average = TRY(number(view, name, 0));
    limit.maximum = TRY(number(view, name + "_max", 0));
    limit.length = TRY(number(view, name + "_max_length", 1));
    return limit;
}

Result<void> only(const JsonView& view, const std::vector<std::string>& names) {
    for (const auto& [key, value] : view.json().as_object()) {
        if (std::find(names.begin(), names.end(), key) == names.end()) {
            const auto near = nearest_name(key, names);
            return view.error(
                fmt::format("unknown limit \"{}\"{}", key,
                            near ? fmt::format("; did you mean \"{}\"?", *near) : ""));
        }
    }
    return {};
}

}  // namespace

Result<void> check_limits(const DiskLimits& limits) {
    for (const NamedLimit& named : kDiskLimits) {
        TRY_CONTEXT(check_rate(limits.*named.limit), "{}", named.name);
    }
    const auto both = [](const RateLimit& total, const RateLimit& one, const RateLimit& other) {
        return total.average != 0 && (one.average != 0 || other.average != 0);
    };
    if (both(limits.total_bytes, limits.read_bytes, limits.write_bytes) ||
        both(limits.total_iops, limits.read_iops, limits.write_iops)) {
        return Error::invalid("a total limit and one of reads or writes exclude each other")
            .with_hint("give either the total, or reads and writes apart");
    }
    return {};
}

Result<void> check_limits(const NicLimits& limits) {
    TRY_CONTEXT(check_rate(limits.inbound), "inbound");
    TRY_CONTEXT(check_rate(limits.outbound), "outbound");
    return {};
}

Result<DiskLimits> parse_disk_limits(const JsonView& view) {
    if (!view.json().is_object()) {
        return view.wrong_type("an object of limits");
    }
    std::vector<std::string> names{kIopsSize};
    DiskLimits limits;
    for (const NamedLimit& named : kDiskLimits) {
        const std::string name = named.name;
        names.insert(names.end(), {name, name + "_max", name + "_max_length"});
        limits.*named.limit = TRY(parse_rate(view, name));
    }
    limits.iops_size = TRY(number(view, kIopsSize, 0));
    TRY(only(view, names));
    TRY_CONTEXT(check_limits(limits), "{}", view.path());
    return limits;
}

Json disk_limits_json(const DiskLimits& limits) {
    Json json = Json::object();
    for (const NamedLimit& named : kDiskLimits) {
        const RateLimit& limit = limits.*named.limit;
        const std::string name = named.name;
        if (limit.average != 0) {
            json.set(name, limit.average);
        }
        if (limit.maximum != 0) {
            json.set(name + "_max", limit.maximum);
            json.set(name + "_max_length", limit.length);
        }
    }
    if (limits.iops_size != 0) {
        json.set(kIopsSize, limits.iops_size);
    }
    return json;
}

Result<NicLimits> parse_nic_limits(const JsonView& view) {
    if (!view.json().is_object()) {
        return view.wrong_type("an object of limits");
    }
    NicLimits limits;
    const auto direction = [&view](const std::string& name) -> Result<RateLimit> {
        RateLimit limit;
        limit.average = TRY(number(view, name + "_bytes_sec", 0));
        limit.maximum = TRY(number(view, name + "_bytes_sec_max", 0));
        limit.burst = TRY(number(view, name + "_burst_bytes", 0));
        return limit;
    };
    limits.inbound = TRY(direction("inbound"));
    limits.outbound = TRY(direction("outbound"));
    TRY(only(view, {"inbound_bytes_sec", "inbound_bytes_sec_max", "inbound_burst_bytes",
                    "outbound_bytes_sec", "outbound_bytes_sec_max", "outbound_burst_bytes"}));
    TRY_CONTEXT(check_limits(limits), "{}", view.path());
    return limits;
}

Json nic_limits_json(const NicLimits& limits) {
    Json json = Json::object();
    const auto add = [&json](const std::string& direction, const RateLimit& limit) {
        const std::pair<const char*, uint64_t> members[] = {{"_bytes_sec", limit.average},
                                                            {"_bytes_sec_max", limit.maximum},
                                                            {"_burst_bytes", limit.burst}};
        for (const auto& [name, value] : members) {
            if (value != 0) {
                json.set(direction + name, value);
            }
        }
    };
    add("inbound", limits.inbound);
    add("outbound", limits.outbound);
    return json;
}

}  // namespace kumoi::hypervisor
