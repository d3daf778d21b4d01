#include "compute/conductor/service_store.h"

#include <algorithm>

#include "base/uuid.h"
#include "compute/conductor/instance_codec.h"

namespace kumoi::compute {
namespace {

Error service_not_found(const std::string& id) {
    return Error::not_found("Service {} could not be found.", id).with_fault("ServiceNotFound");
}

}  // namespace

Result<void> ServiceStore::load() {
    const std::lock_guard lock(mutex_);
    const auto services = TRY(database_.read([](SqlSession& sql) {
        return sql.query(
            "SELECT id, uuid, host, binary, disabled, disabled_reason, forced_down, created_ns, "
            "last_seen_ns FROM services");
    }));
    for (const SqlRow& row : services) {
        ServiceRecord record;
        record.id = row.integer(0);
        record.uuid = row.text(1);
        record.host = row.text(2);
        record.binary = row.text(3);
        record.disabled = row.integer(4) != 0;
        record.disabled_reason = row.text_or_null(5);
        record.forced_down = row.integer(6) != 0;
        record.created_ns = row.integer(7);
        record.last_seen_ns = row.integer(8);
        services_[record.id] = record;
    }
    const auto nodes = TRY(database_.read(
        [](SqlSession& sql) { return sql.query("SELECT id, host, body FROM compute_nodes"); }));
    for (const SqlRow& row : nodes) {
        const Json body = TRY_CONTEXT(Json::parse(row.text(2)), "compute node {}", row.text(1));
        nodes_[row.text(1)] = {row.integer(0), compute_node_from_json(body)};
    }
    return {};
}

Result<void> ServiceStore::heartbeat(const std::string& host, const std::string& binary) {
    const std::lock_guard lock(mutex_);
    const int64_t now = clock_.wall_ns();
    for (auto& entry : services_) {
        const int64_t id = entry.first;
        ServiceRecord& record = entry.second;
        if (record.host == host && record.binary == binary) {
            record.last_seen_ns = now;
            return database_.write_relaxed([&](SqlSession& sql) -> Result<void> {
                TRY(sql.run("UPDATE services SET last_seen_ns = ? WHERE id = ?", now, id));
                return {};
            });
        }
    }
    ServiceRecord record;
    record.uuid = Uuid::generate(random_).text();
    record.host = host;
    record.binary = binary;
    record.created_ns = now;
    record.last_seen_ns = now;
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(
            sql.run("INSERT INTO services(uuid, host, binary, created_ns, last_seen_ns) "
                    "VALUES(?, ?, ?, ?, ?)",
                    record.uuid, host, binary, now, now));
        record.id = sql.last_insert_id();
        return {};
    }));
    services_[record.id] = record;
    return {};
}

Result<void> ServiceStore::update_node(const ComputeNode& node) {
    const std::lock_guard lock(mutex_);
    ComputeNode stored = node;
    stored.updated_ns = clock_.wall_ns();
    int64_t id = 0;
    TRY(database_.write_relaxed([&](SqlSession& sql) -> Result<void> {
        TRY(
            sql.run("INSERT INTO compute_nodes(host, body) VALUES(?, ?) "
                    "ON CONFLICT(host) DO UPDATE SET body = excluded.body",
                    node.host, compute_node_to_json(stored).dump()));
        const auto row =
            TRY(sql.query_one("SELECT id FROM compute_nodes WHERE host = ?", node.host));
        id = row ? row->integer(0) : 0;
        return {};
    }));
    nodes_[node.host] = {id, std::move(stored)};
    return {};
}

std::vector<ServiceRecord> ServiceStore::services() const {
    const std::lock_guard lock(mutex_);
    std::vector<ServiceRecord> result;
    for (const auto& [id, record] : services_) {
        result.push_back(judged(record));
    }
    return result;
}

std::optional<ServiceRecord> ServiceStore::find_service(const std::string& uuid_or_id) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, record] : services_) {
        if (record.uuid == uuid_or_id || std::to_string(id) == uuid_or_id) {
            return judged(record);
        }
    }
    return std::nullopt;
}

std::optional<ServiceRecord> ServiceStore::find_service(const std::string& host,
                                                        const std::string& binary) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, record] : services_) {
        if (record.host == host && record.binary == binary) {
            return judged(record);
        }
    }
    return std::nullopt;
}

Result<ServiceRecord> ServiceStore::change(const std::string& uuid, const ServiceChange& change) {
    const std::lock_guard lock(mutex_);
    for (auto& [id, record] : services_) {
        if (record.uuid != uuid) {
            continue;
        }
        ServiceRecord changed = record;
        changed.forced_down = change.forced_down.value_or(record.forced_down);
        if (change.disabled) {
            changed.disabled = *change.disabled;
            changed.disabled_reason = change.disabled_reason;  // enabling clears it, as Nova does
        }
        TRY(save(changed));
        record = changed;
        return judged(record);
    }
    return service_not_found(uuid);
}

Result<void> ServiceStore::remove(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(services_.begin(), services_.end(),
                                    [&](const auto& entry) { return entry.second.uuid == uuid; });
    if (found == services_.end()) {
        return service_not_found(uuid);
    }
    const std::string host = found->second.host;
    const bool is_compute = found->second.binary == "nova-compute";
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM services WHERE uuid = ?", uuid));
        if (is_compute) {
            TRY(sql.run("DELETE FROM compute_nodes WHERE host = ?", host));
            TRY(sql.run("DELETE FROM aggregate_hosts WHERE host = ?", host));
        }
        return {};
    }));
    if (is_compute) {
        nodes_.erase(host);
    }
    services_.erase(found);
    return {};
}

std::vector<ComputeNodeRecord> ServiceStore::nodes() const {
    const std::lock_guard lock(mutex_);
    std::vector<ComputeNodeRecord> result;
    for (const auto& [host, record] : nodes_) {
        result.push_back(record);
    }
    std::sort(result.begin(), result.end(),
              [](const auto& left, const auto& right) { return left.id < right.id; });
    return result;
}

std::optional<ComputeNodeRecord> ServiceStore::find_node(const std::string& host) const {
    const std::lock_guard lock(mutex_);
    const auto found = nodes_.find(host);
    return found == nodes_.end() ? std::nullopt : std::optional(found->second);
}

uint64_t ServiceStore::generation() const {
    // States also change by mere time, so the generation is a digest of them and not a counter.
    uint64_t digest = 14695981039346656037u;  // FNV-1a
    const std::lock_guard lock(mutex_);
    for (const auto& [id, record] : services_) {
        const uint64_t bits = static_cast<uint64_t>(id) << 3 | (judged(record).up ? 1u : 0u) |
                              (record.disabled ? 2u : 0u) | (record.forced_down ? 4u : 0u);
        digest = (digest ^ bits) * 1099511628211u;
    }
    return digest;
}

ServiceRecord ServiceStore::judged(const ServiceRecord& record) const {
    ServiceRecord result = record;
    const int64_t silent_s = (clock_.wall_ns() - record.last_seen_ns) / kNanosPerSecond;
    result.up = !record.forced_down && silent_s <= service_down_time_s_;
    if (record.forced_down) {
        result.down_reason = "forced down by an operator";
    } else if (!result.up) {
        result.down_reason = fmt::format("no heartbeat for {} s", silent_s);
    }
    return result;
}

Result<void> ServiceStore::save(const ServiceRecord& record) {
    return database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(
            sql.run("UPDATE services SET disabled = ?, disabled_reason = ?, forced_down = ?, "
                    "last_seen_ns = ? WHERE id = ?",
                    record.disabled, record.disabled_reason, record.forced_down,
                    record.last_seen_ns, record.id));
        return {};
    });
}

}  // namespace kumoi::compute
