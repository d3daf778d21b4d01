#include "compute/driver/quota_specs.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>

namespace kumoi::compute {
namespace {

constexpr int64_t kValueMax = int64_t{1} << 40;
constexpr int64_t kKibi = 1024;  // libvirt's kilobytes, which Nova's vif specs are in
constexpr std::array kDirections = {"total", "read", "write"};
constexpr std::array kUnits = {"bytes", "iops"};

struct VifSpec {
    const char* name;
    const char* member;
};
constexpr VifSpec kVifSpecs[] = {
    {"quota:vif_inbound_average", "inbound_bytes_sec"},
    {"quota:vif_inbound_peak", "inbound_bytes_sec_max"},
    {"quota:vif_inbound_burst", "inbound_burst_bytes"},
    {"quota:vif_outbound_average", "outbound_bytes_sec"},
    {"quota:vif_outbound_peak", "outbound_bytes_sec_max"},
    {"quota:vif_outbound_burst", "outbound_burst_bytes"},
};

std::optional<int64_t> number(const std::string& text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    return whole && value >= 0 && value <= kValueMax ? std::optional(value) : std::nullopt;
}

// 0 when absent, which is "no limit" to Nova, too.
int64_t value_of(const Properties& specs, const std::string& name) {
    const auto found = specs.find(name);
    return found == specs.end() ? 0 : number(found->second).value_or(0);
}

Error refuse(const std::string& what) {
    return Error::invalid("{}", what)
        .with_hint("Correct the flavor's extra specs.")
        .with_fault("InvalidInput");
}

std::string disk_spec(const char* direction, const char* unit) {
    return fmt::format("quota:disk_{}_{}_sec", direction, unit);
}

Result<void> check_numbers(const Properties& specs) {
    for (const auto& [name, value] : specs) {
        const bool ours = name.starts_with("quota:disk_") || name.starts_with("quota:vif_");
        if (ours && !number(value)) {
            return refuse(fmt::format("Extra spec {}={} is not a whole number from 0 to {}", name,
                                      value, kValueMax));
        }
    }
    return {};
}

Result<void> check_burst(const Properties& specs, const std::string& average,
                         const std::string& maximum) {
    const int64_t highest = value_of(specs, maximum);
    if (highest != 0 && highest < value_of(specs, average)) {
        return refuse(fmt::format("Extra spec {}={} is below {}={}", maximum, highest, average,
                                  value_of(specs, average)));
    }
    if (highest != 0 && value_of(specs, average) == 0) {
        return refuse(fmt::format("Extra spec {} needs {}", maximum, average));
    }
    return {};
}

}  // namespace

Result<void> check_quota_specs(const Properties& extra_specs) {
    TRY(check_numbers(extra_specs));
    for (const char* unit : kUnits) {
        for (const char* direction : kDirections) {
            const std::string average = disk_spec(direction, unit);
            TRY(check_burst(extra_specs, average, average + "_max"));
        }
        if (value_of(extra_specs, disk_spec("total", unit)) != 0 &&
            (value_of(extra_specs, disk_spec("read", unit)) != 0 ||
             value_of(extra_specs, disk_spec("write", unit)) != 0)) {
            return refuse(fmt::format("Extra spec {} excludes limits of reads or writes",
                                      disk_spec("total", unit)));
        }
    }
    for (const char* direction : {"inbound", "outbound"}) {
        const std::string start = fmt::format("quota:vif_{}_", direction);
        TRY(check_burst(extra_specs, start + "average", start + "peak"));
        if (value_of(extra_specs, start + "burst") != 0 &&
            value_of(extra_specs, start + "average") == 0) {
            return refuse(fmt::format("Extra spec {0}burst needs {0}average", start));
        }
    }
    return {};
}

Json disk_limits(const Properties& extra_specs) {
    Json limits = Json::object();
    const auto copy = [&](const std::string& name, const std::string& member) {
        if (const int64_t value = value_of(extra_specs, name); value != 0) {
            limits.set(member, value);
        }
    };
    for (const char* unit : kUnits) {
        for (const char* direction : kDirections) {
            const std::string name = disk_spec(direction, unit);
            const std::string member = fmt::format("{}_{}_sec", direction, unit);
            copy(name, member);
            copy(name + "_max", member + "_max");
            if (value_of(extra_specs, name + "_max") != 0) {
                copy(name + "_max_length", member + "_max_length");
            }
        }
    }
    copy("quota:disk_size_iops_sec", "size_iops_sec");
    return limits;
}

Json nic_limits(const Properties& extra_specs) {
    Json limits = Json::object();
    for (const VifSpec& spec : kVifSpecs) {
        const int64_t kibi = std::min(value_of(extra_specs, spec.name), kValueMax / kKibi);
        if (kibi != 0) {
            limits.set(spec.member, kibi * kKibi);
        }
    }
    return limits;
}

}  // namespace kumoi::compute
