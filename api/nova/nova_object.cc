#include "api/nova/nova_object.h"

#include <algorithm>

namespace kumoi::nova {
namespace {

constexpr char kName[] = "nova_object.name";
constexpr char kNamespace[] = "nova_object.namespace";
constexpr char kVersion[] = "nova_object.version";
constexpr char kData[] = "nova_object.data";
constexpr char kChanges[] = "nova_object.changes";

Error unsupported(const std::string& name) {
    return Error::unsupported("Unsupported object type {}", name)
        .with_fault("UnsupportedObjectError");
}

}  // namespace

bool is_object_primitive(const Json& value) {
    return value.is_object() && value.contains(kName);
}

NovaObject NovaObject::make(const ObjectTable& table, std::string_view name) {
    const ObjectInfo* info = table.find(name);
    KUMOI_ASSERT(info != nullptr);
    NovaObject object;
    object.table_ = &table;
    object.name_ = info->name;
    object.version_ = info->version;
    return object;
}

Result<NovaObject> NovaObject::parse(const ObjectTable& table, Json primitive) {
    if (!primitive.is_object()) {
        return Error::invalid("a versioned object was expected, not {}", primitive.type_name());
    }
    NovaObject object;
    object.table_ = &table;
    object.name_ = primitive.string_or(kName);
    object.version_ = primitive.string_or(kVersion);
    const ObjectInfo* info = table.find(object.name_);
    if (info == nullptr || primitive.string_or(kNamespace) != "nova") {
        return unsupported(object.name_.substr(0, 80));
    }
    const auto theirs = ObjectVersion::parse(object.version_);
    const auto ours = ObjectVersion::parse(info->version);
    if (!theirs || theirs->major != ours->major) {
        return Error::unsupported("Version {} of {} is not supported, supported version is {}",
                                  object.version_.substr(0, 40), object.name_, info->version)
            .with_fault("IncompatibleObjectVersion");
    }
    Json* data = primitive.find(kData);
    if (data == nullptr || !data->is_object()) {
        return Error::invalid("object {} has no data", object.name_);
    }
    for (const auto& [field, value] : data->as_object()) {
        const auto type = info->fields.find(field);
        if (type != info->fields.end() && !object.is_newer_than_table()) {
            TRY(table.check(type->second, value, object.name_ + "." + field));
        }
    }
    object.data_ = std::move(*data);
    if (const Json* changes = primitive.find(kChanges); changes != nullptr && changes->is_array()) {
        for (const Json& field : changes->as_array()) {
            if (field.is_string() && object.data_.contains(field.as_string())) {
                object.changes_.push_back(field.as_string());
            }
        }
    }
    return object;
}

bool NovaObject::is_newer_than_table() const {
    const ObjectInfo* info = table_ == nullptr ? nullptr : table_->find(name_);
    return info != nullptr && ObjectVersion::parse(version_) > ObjectVersion::parse(info->version);
}

std::string NovaObject::text(std::string_view field, std::string_view other) const {
    return data_.string_or(field, other);
}

std::optional<std::string> NovaObject::optional_text(std::string_view field) const {
    const Json* value = get(field);
    return value != nullptr && value->is_string() ? std::optional(value->as_string())
                                                  : std::nullopt;
}

int64_t NovaObject::integer(std::string_view field, int64_t other) const {
    return data_.integer_or(field, other);
}

bool NovaObject::boolean(std::string_view field, bool other) const {
    return data_.bool_or(field, other);
}

Result<NovaObject> NovaObject::object(std::string_view field) const {
    const Json* value = get(field);
    if (value == nullptr || value->is_null()) {
        return Error::not_found("{} has no {}", name_, field);
    }
    return parse(*table_, *value);
}

Result<std::vector<NovaObject>> NovaObject::objects(std::string_view field) const {
    std::vector<NovaObject> all;
    const Json* value = get(field);
    if (value == nullptr || !value->is_array()) {
        return all;
    }
    all.reserve(value->size());
    for (const Json& item : value->as_array()) {
        all.push_back(TRY(parse(*table_, item)));
    }
    return all;
}

void NovaObject::set(std::string_view field, Json value) {
    const ObjectInfo* info = table_->find(name_);
    const auto type = info->fields.find(field);
    KUMOI_ASSERT(type != info->fields.end());
    KUMOI_ASSERT(table_->check(type->second, value, field).ok());
    data_.set(field, std::move(value));
    if (std::find(changes_.begin(), changes_.end(), field) == changes_.end()) {
        changes_.emplace_back(field);
    }
}

Result<void> NovaObject::apply_updates(const Json& updates) {
    if (!updates.is_object()) {
        return Error::invalid("the changes of a {} are {}, expected a dictionary", name_,
                              updates.type_name());
    }
    changes_.clear();
    const ObjectInfo* info = table_->find(name_);
    for (const auto& [field, value] : updates.as_object()) {
        if (field == "obj_what_changed") {
            continue;
        }
        const auto type = info->fields.find(field);
        if (type != info->fields.end()) {
            TRY(table_->check(type->second, value, name_ + "." + field));
        }
        data_.set(field, value);
    }
    const Json* changed = updates.find("obj_what_changed");
    if (changed != nullptr && changed->is_array()) {
        for (const Json& field : changed->as_array()) {
            if (field.is_string() && has(field.as_string())) {
                changes_.push_back(field.as_string());
            }
        }
    }
    return {};
}

Json NovaObject::primitive() const {
    Json out = Json::object({{kName, name_}, {kNamespace, "nova"}, {kVersion, version_}});
    out.set(kData, data_);
    if (!changes_.empty()) {
        out.set(kChanges, Json::array_of(changes_));
    }
    return out;
}

}  // namespace kumoi::nova
