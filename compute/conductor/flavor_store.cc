#include "compute/conductor/flavor_store.h"

#include "compute/conductor/instance_codec.h"

namespace kumoi::compute {

Result<void> FlavorStore::load() {
    const std::lock_guard lock(mutex_);
    const auto rows = TRY(database_.read(
        [](SqlSession& sql) { return sql.query("SELECT id, flavor_id, body FROM flavors"); }));
    for (const SqlRow& row : rows) {
        const Json body = TRY_CONTEXT(Json::parse(row.text(2)), "flavor {}", row.text(1));
        flavors_[row.integer(0)] = flavor_from_json(body);
    }
    const auto access = TRY(database_.read([](SqlSession& sql) {
        return sql.query("SELECT flavor_id, project_id FROM flavor_access");
    }));
    for (const SqlRow& row : access) {
        access_[row.text(0)].insert(row.text(1));
    }
    return {};
}

Result<void> FlavorStore::create(const Flavor& flavor) {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, other] : flavors_) {
        if (other.name == flavor.name) {
            return Error::conflict("Flavor with name {} already exists.", flavor.name)
                .with_fault("FlavorExists");
        }
        if (other.flavor_id == flavor.flavor_id) {
            return Error::conflict("Flavor with ID {} already exists.", flavor.flavor_id)
                .with_fault("FlavorIdExists");
        }
    }
    int64_t id = 0;
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("INSERT INTO flavors(flavor_id, name, body) VALUES(?, ?, ?)", flavor.flavor_id,
                    flavor.name, flavor_to_json(flavor).dump()));
        id = sql.last_insert_id();
        return {};
    }));
    flavors_[id] = flavor;
    return {};
}

Result<void> FlavorStore::remove(const std::string& flavor_id) {
    const std::lock_guard lock(mutex_);
    const int64_t id = TRY(id_of(flavor_id));
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM flavors WHERE id = ?", id));
        return {};
    }));
    flavors_.erase(id);
    access_.erase(flavor_id);
    return {};
}

Result<Flavor> FlavorStore::get(const std::string& flavor_id) const {
    const std::lock_guard lock(mutex_);
    return flavors_.at(TRY(id_of(flavor_id)));
}

int64_t FlavorStore::number_of(const std::string& flavor_id) const {
    const std::lock_guard lock(mutex_);
    return id_of(flavor_id).value_or(0);
}

std::vector<Flavor> FlavorStore::list() const {
    const std::lock_guard lock(mutex_);
    std::vector<Flavor> result;
    for (const auto& [id, flavor] : flavors_) {
        result.push_back(flavor);
    }
    return result;
}

Result<Flavor> FlavorStore::set_description(const std::string& flavor_id,
                                            const std::optional<std::string>& description) {
    return change(flavor_id, [&](Flavor& flavor) { flavor.description = description; });
}

Result<Flavor> FlavorStore::set_extra_specs(const std::string& flavor_id, const Properties& added) {
    return change(flavor_id, [&](Flavor& flavor) {
        for (const auto& [key, value] : added) {
            flavor.extra_specs[key] = value;
        }
    });
}

Result<void> FlavorStore::remove_extra_spec(const std::string& flavor_id, const std::string& key) {
    const Flavor flavor = TRY(get(flavor_id));
    if (!flavor.extra_specs.contains(key)) {
        return Error::not_found("Flavor {} has no extra specs with key {}.", flavor_id, key)
            .with_fault("FlavorExtraSpecsNotFound");
    }
    TRY(change(flavor_id, [&](Flavor& changed) { changed.extra_specs.erase(key); }));
    return {};
}

bool FlavorStore::is_visible(const Flavor& flavor, const std::string& project_id) const {
    return flavor.is_public || access(flavor.flavor_id).contains(project_id);
}

std::set<std::string> FlavorStore::access(const std::string& flavor_id) const {
    const std::lock_guard lock(mutex_);
    const auto found = access_.find(flavor_id);
    return found == access_.end() ? std::set<std::string>() : found->second;
}

Result<void> FlavorStore::add_access(const std::string& flavor_id, const std::string& project_id) {
    const std::lock_guard lock(mutex_);
    TRY(id_of(flavor_id));
    if (access_[flavor_id].contains(project_id)) {
        return Error::conflict(
                   "Flavor access already exists for flavor {} and project {} combination.",
                   flavor_id, project_id)
            .with_fault("FlavorAccessExists");
    }
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("INSERT INTO flavor_access(flavor_id, project_id) VALUES(?, ?)", flavor_id,
                    project_id));
        return {};
    }));
    access_[flavor_id].insert(project_id);
    return {};
}

Result<void> FlavorStore::remove_access(const std::string& flavor_id,
                                        const std::string& project_id) {
    const std::lock_guard lock(mutex_);
    TRY(id_of(flavor_id));
    if (!access_[flavor_id].contains(project_id)) {
        return Error::not_found("Flavor access not found for {} / {} combination.", flavor_id,
                                project_id)
            .with_fault("FlavorAccessNotFound");
    }
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM flavor_access WHERE flavor_id = ? AND project_id = ?", flavor_id,
                    project_id));
        return {};
    }));
    access_[flavor_id].erase(project_id);
    return {};
}

Result<Flavor> FlavorStore::change(const std::string& flavor_id,
                                   const std::function<void(Flavor&)>& change) {
    const std::lock_guard lock(mutex_);
    const int64_t id = TRY(id_of(flavor_id));
    Flavor flavor = flavors_.at(id);
    change(flavor);
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("UPDATE flavors SET body = ? WHERE id = ?", flavor_to_json(flavor).dump(), id));
        return {};
    }));
    flavors_[id] = flavor;
    return flavor;
}

Result<int64_t> FlavorStore::id_of(const std::string& flavor_id) const {
    for (const auto& [id, flavor] : flavors_) {
        if (flavor.flavor_id == flavor_id) {
            return id;
        }
    }
    return Error::not_found("Flavor {} could not be found.", flavor_id)
        .with_fault("FlavorNotFound");
}

}  // namespace kumoi::compute
