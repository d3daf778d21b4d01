// ObjectTable: the versioned objects of one Nova release: for each its version, its fields with
// their types, and the methods that run in nova-conductor. Read from object_tables/<release>.txt,
// which is compiled in:
//
//     Instance 2.7
//       fields uuid:UUID host:String? flavor:Object<Flavor> ...      (`?`: null is a value)
//       remotable .save get_by_uuid ...                 (for readers; `.`: needs an object)
//
// Immutable after it is made; any thread. Source: oslo.versionedobjects fields, nova/objects.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "api/nova/release.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::nova {

struct FieldType {
    enum class Kind {
        Text,  // String, UUID, addresses, and all whose primitive is text
        Integer,
        Float,
        Boolean,
        DateTime,  // "2026-01-02T03:04:05Z"
        Enum,
        Items,   // List, Set
        Map,     // Dict: text to element
        Object,  // of class `object_name`, or one below it
    };
    Kind kind = Kind::Text;
    bool nullable = false;
    std::string object_name;
    bool subclasses = false;                   // Object: another class may stand here
    std::vector<std::string> values;           // Enum
    std::shared_ptr<const FieldType> element;  // Items, Map
};

struct ObjectInfo {
    std::string name;
    std::string version;
    std::map<std::string, FieldType, std::less<>> fields;
};

struct ObjectVersion {
    int64_t major = 0;
    int64_t minor = 0;
    auto operator<=>(const ObjectVersion&) const = default;
    // "2.7"; of "1.2.3" the third number is left out.
    static std::optional<ObjectVersion> parse(std::string_view text);
};

class ObjectTable {
public:
    static const ObjectTable& of(Release release);
    static Result<ObjectTable> parse(std::string_view text);

    const ObjectInfo* find(std::string_view name) const;  // nullptr: no such object
    const std::map<std::string, ObjectInfo, std::less<>>& objects() const { return objects_; }
    // {class: version} of `name` and of everything its fields reach: what conductor may answer.
    Json manifest(std::string_view name) const;
    // Whether `value` may stand in this field. The error names the place.
    Result<void> check(const FieldType& type, const Json& value, std::string_view place) const;

private:
    void reach(const std::string& name, std::set<std::string>& seen,
               std::vector<std::string>& order) const;
    std::map<std::string, ObjectInfo, std::less<>> objects_;
};

}  // namespace kumoi::nova
