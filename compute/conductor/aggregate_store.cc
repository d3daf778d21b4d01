#include "compute/conductor/aggregate_store.h"

#include "compute/conductor/instance_codec.h"

namespace kumoi::compute {
namespace {

Error aggregate_not_found(int64_t id) {
    return Error::not_found("Aggregate {} could not be found.", id).with_fault("AggregateNotFound");
}

}  // namespace

std::optional<std::string> Aggregate::zone() const {
    const auto found = metadata.find("availability_zone");
    return found == metadata.end() ? std::nullopt : std::optional(found->second);
}

Result<void> AggregateStore::load() {
    const std::lock_guard lock(mutex_);
    const auto rows = TRY(database_.read([](SqlSession& sql) {
        return sql.query("SELECT id, uuid, name, metadata, created_ns, updated_ns FROM aggregates");
    }));
    for (const SqlRow& row : rows) {
        const Json metadata = TRY_CONTEXT(Json::parse(row.text(3)), "aggregate {}", row.text(2));
        aggregates_[row.integer(0)] = {
            row.integer(0), row.text(1),   row.text(2), properties_from_json(&metadata), {},
            row.integer(4), row.integer(5)};
    }
    const auto hosts = TRY(database_.read([](SqlSession& sql) {
        return sql.query("SELECT aggregate_id, host FROM aggregate_hosts");
    }));
    for (const SqlRow& row : hosts) {
        aggregates_[row.integer(0)].hosts.insert(row.text(1));
    }
    return {};
}

std::vector<Aggregate> AggregateStore::list() const {
    const std::lock_guard lock(mutex_);
    std::vector<Aggregate> result;
    for (const auto& [id, aggregate] : aggregates_) {
        result.push_back(aggregate);
    }
    return result;
}

Result<Aggregate> AggregateStore::get(int64_t id) const {
    const std::lock_guard lock(mutex_);
    const auto found = aggregates_.find(id);
    if (found == aggregates_.end()) {
        return aggregate_not_found(id);
    }
    return found->second;
}

Result<Aggregate> AggregateStore::create(Aggregate aggregate) {
    const std::lock_guard lock(mutex_);
    TRY(check_name(aggregate.name, 0));
    aggregate.created_ns = clock_.wall_ns();
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(
            sql.run("INSERT INTO aggregates(uuid, name, metadata, created_ns, updated_ns) "
                    "VALUES(?, ?, ?, ?, 0)",
                    aggregate.uuid, aggregate.name, properties_to_json(aggregate.metadata).dump(),
                    aggregate.created_ns));
        aggregate.id = sql.last_insert_id();
        return {};
    }));
    aggregates_[aggregate.id] = aggregate;
    return aggregate;
}

Result<Aggregate> AggregateStore::rename(int64_t id, const std::string& name) {
    return change(id, [&](Aggregate& aggregate) -> Result<void> {
        TRY(check_name(name, id));
        aggregate.name = name;
        return {};
    });
}

Result<Aggregate> AggregateStore::set_metadata(
    int64_t id, const std::map<std::string, std::optional<std::string>>& changes) {
    return change(id, [&](Aggregate& aggregate) -> Result<void> {
        for (const auto& [key, value] : changes) {
            if (value) {
                aggregate.metadata[key] = *value;
            } else {
                aggregate.metadata.erase(key);
            }
        }
        return {};
    });
}

Result<Aggregate> AggregateStore::add_host(int64_t id, const std::string& host) {
    return change(id, [&](Aggregate& aggregate) -> Result<void> {
        if (aggregate.hosts.contains(host)) {
            return Error::conflict("Aggregate {} already has host {}.", id, host)
                .with_fault("AggregateHostExists");
        }
        for (const auto& [other_id, other] : aggregates_) {
            if (aggregate.zone() && other.zone() && other.zone() != aggregate.zone() &&
                other.hosts.contains(host)) {
                return Error::conflict(
                           "Cannot add host to aggregate {}. Reason: Host {} is already in "
                           "availability zone {}.",
                           id, host, *other.zone())
                    .with_fault("InvalidAggregateAction");
            }
        }
        aggregate.hosts.insert(host);
        return {};
    });
}

Result<Aggregate> AggregateStore::remove_host(int64_t id, const std::string& host) {
    return change(id, [&](Aggregate& aggregate) -> Result<void> {
        if (aggregate.hosts.erase(host) == 0) {
            return Error::not_found("Aggregate {} has no host {}.", id, host)
                .with_fault("AggregateHostNotFound");
        }
        return {};
    });
}

Result<void> AggregateStore::remove(int64_t id) {
    const std::lock_guard lock(mutex_);
    const auto found = aggregates_.find(id);
    if (found == aggregates_.end()) {
        return aggregate_not_found(id);
    }
    if (!found->second.hosts.empty()) {
        return Error::invalid("Cannot delete aggregate {}. Reason: Host aggregate is not empty.",
                              id)
            .with_hint(fmt::format("Remove its {} host(s) first.", found->second.hosts.size()))
            .with_fault("InvalidAggregateAction");
    }
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM aggregates WHERE id = ?", id));
        return {};
    }));
    aggregates_.erase(found);
    return {};
}

void AggregateStore::forget_host(const std::string& host) {
    const std::lock_guard lock(mutex_);
    for (auto& [id, aggregate] : aggregates_) {
        aggregate.hosts.erase(host);
    }
}

std::string AggregateStore::zone_of(const std::string& host) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, aggregate] : aggregates_) {
        if (aggregate.zone() && aggregate.hosts.contains(host)) {
            return *aggregate.zone();
        }
    }
    return kDefaultZone;
}

std::set<std::string> AggregateStore::zones() const {
    std::set<std::string> result = {kDefaultZone};
    const std::lock_guard lock(mutex_);
    for (const auto& [id, aggregate] : aggregates_) {
        if (aggregate.zone()) {
            result.insert(*aggregate.zone());
        }
    }
    return result;
}

Result<Aggregate> AggregateStore::change(int64_t id,
                                         const std::function<Result<void>(Aggregate&)>& change) {
    const std::lock_guard lock(mutex_);
    const auto found = aggregates_.find(id);
    if (found == aggregates_.end()) {
        return aggregate_not_found(id);
    }
    Aggregate changed = found->second;
    TRY(change(changed));
    changed.updated_ns = clock_.wall_ns();
    TRY(save(changed));
    found->second = changed;
    return changed;
}

Result<void> AggregateStore::check_name(const std::string& name, int64_t own_id) const {
    for (const auto& [id, aggregate] : aggregates_) {
        if (aggregate.name == name && id != own_id) {
            return Error::conflict("Aggregate {} already exists.", name)
                .with_fault("AggregateNameExists");
        }
    }
    return {};
}

Result<void> AggregateStore::save(const Aggregate& aggregate) {
    return database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("UPDATE aggregates SET name = ?, metadata = ?, updated_ns = ? WHERE id = ?",
                    aggregate.name, properties_to_json(aggregate.metadata).dump(),
                    aggregate.updated_ns, aggregate.id));
        TRY(sql.run("DELETE FROM aggregate_hosts WHERE aggregate_id = ?", aggregate.id));
        for (const std::string& host : aggregate.hosts) {
            TRY(sql.run("INSERT INTO aggregate_hosts(aggregate_id, host) VALUES(?, ?)",
                        aggregate.id, host));
        }
        return {};
    });
}

}  // namespace kumoi::compute
