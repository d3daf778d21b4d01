// NovaObject: one versioned object as it travels: its class, its version, the fields that are set
// and which of them changed. A record driven by the ObjectTable: a field that the table lacks is
// kept as it came and sent back unchanged. Nested objects stay primitives (Json) until asked for.
// A value; no locks. Source: oslo.versionedobjects, NOVA-COMPUTE contract 2.2.
//
//     auto instance = TRY(NovaObject::parse(table, primitive));
//     instance.text("vm_state");                    // "" when null or not set
//     instance.set("task_state", "powering-off");   // and marks it changed
//     rpc(instance.primitive());
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/nova/object_table.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::nova {

// Whether this is the primitive of a versioned object.
bool is_object_primitive(const Json& value);

class NovaObject {
public:
    NovaObject() = default;
    // Of the table's version, nothing set. `name` must be in the table.
    static NovaObject make(const ObjectTable& table, std::string_view name);
    // Refuses what is no object, a class the table lacks (UnsupportedObjectError), another major
    // version (IncompatibleObjectVersion), and known fields of a wrong type.
    static Result<NovaObject> parse(const ObjectTable& table, Json primitive);

    const ObjectTable& table() const { return *table_; }
    const std::string& name() const { return name_; }
    const std::string& version() const { return version_; }
    // The sender's minor version is above the table's: conductor can translate it.
    bool is_newer_than_table() const;

    bool has(std::string_view field) const { return data_.contains(field); }  // set, maybe to null
    const Json* get(std::string_view field) const { return data_.find(field); }
    // Null, unset or of another type gives the default.
    std::string text(std::string_view field, std::string_view other = {}) const;
    std::optional<std::string> optional_text(std::string_view field) const;
    int64_t integer(std::string_view field, int64_t other = 0) const;
    bool boolean(std::string_view field, bool other = false) const;
    // A nested object. NotFound when null or unset.
    Result<NovaObject> object(std::string_view field) const;
    // The members of a list object (InstanceList and its kind).
    Result<std::vector<NovaObject>> objects(std::string_view field = "objects") const;

    // Sets the field and marks it changed. The field must be in the table and the value fit it.
    void set(std::string_view field, Json value);
    // What conductor changed (the first half of an object_action reply): field -> primitive, and
    // `obj_what_changed`, the fields that count as changed from now on.
    Result<void> apply_updates(const Json& updates);
    void reset_changes() { changes_.clear(); }
    const std::vector<std::string>& changes() const { return changes_; }

    Json primitive() const;

private:
    const ObjectTable* table_ = nullptr;
    std::string name_;
    std::string version_;
    Json data_ = Json::object();
    std::vector<std::string> changes_;
};

}  // namespace kumoi::nova
