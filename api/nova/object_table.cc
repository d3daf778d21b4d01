#include "api/nova/object_table.h"

#include <algorithm>
#include <charconv>

#include "api/nova/object_table_texts.h"

namespace kumoi::nova {
namespace {

constexpr int kTypeDepthMax = 8;

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    size_t begin = 0;
    while (begin < text.size()) {
        const size_t end = std::min(text.find(separator, begin), text.size());
        if (end > begin) {
            parts.push_back(text.substr(begin, end - begin));
        }
        begin = end + 1;
    }
    return parts;
}

// The text between `name<` and the last `>`.
std::optional<std::string_view> inside(std::string_view text, std::string_view name, char open,
                                       char close) {
    if (text.size() > name.size() + 1 && text.starts_with(name) && text[name.size()] == open &&
        text.back() == close) {
        return text.substr(name.size() + 1, text.size() - name.size() - 2);
    }
    return std::nullopt;
}

Result<FieldType> parse_type(std::string_view text, int depth) {
    FieldType type;
    if (depth > kTypeDepthMax) {
        return Error::corrupt("a field type nests more than {} deep", kTypeDepthMax);
    }
    if (text.ends_with('?')) {
        type.nullable = true;
        text.remove_suffix(1);
    }
    for (const std::string_view name : {"List", "Set", "Dict"}) {
        if (const auto element = inside(text, name, '<', '>')) {
            type.kind = name == "Dict" ? FieldType::Kind::Map : FieldType::Kind::Items;
            type.element = std::make_shared<const FieldType>(TRY(parse_type(*element, depth + 1)));
            return type;
        }
    }
    if (const auto object = inside(text, "Object", '<', '>')) {
        type.kind = FieldType::Kind::Object;
        type.object_name = object->substr(0, object->find('|'));
        type.subclasses = object->ends_with("|subclasses");
        return type;
    }
    if (const auto values = inside(text, "Enum", '[', ']')) {
        type.kind = FieldType::Kind::Enum;
        for (const std::string_view value : split(*values, ',')) {
            type.values.emplace_back(value);
        }
        return type;
    }
    if (text.empty() || text.find_first_of("<>[]") != std::string_view::npos) {
        return Error::corrupt("'{}' is no field type", text);
    }
    type.kind = text == "Integer"                                ? FieldType::Kind::Integer
                : text == "Float"                                ? FieldType::Kind::Float
                : text == "Boolean" || text == "FlexibleBoolean" ? FieldType::Kind::Boolean
                : text == "DateTime"                             ? FieldType::Kind::DateTime
                                                                 : FieldType::Kind::Text;
    return type;
}

Result<void> parse_line(ObjectInfo& object, std::string_view line) {
    const auto words = split(line, ' ');
    if (words[0] == "remotable") {
        return {};
    }
    for (size_t index = 1; index < words.size(); ++index) {
        const std::string_view word = words[index];
        const size_t colon = word.find(':');
        if (words[0] != "fields" || colon == std::string_view::npos) {
            return Error::corrupt("object {}: '{}' is not understood", object.name, word);
        }
        object.fields.emplace(word.substr(0, colon), TRY(parse_type(word.substr(colon + 1), 0)));
    }
    return {};
}

Error wrong(std::string_view place, const Json& value, std::string_view expected) {
    return Error::invalid("{} is {}, expected {}", place, value.type_name(), expected);
}

}  // namespace

std::optional<ObjectVersion> ObjectVersion::parse(std::string_view text) {
    ObjectVersion version;
    const char* const end = text.data() + text.size();
    const auto major = std::from_chars(text.data(), end, version.major);
    if (major.ec != std::errc() || major.ptr == end || *major.ptr != '.') {
        return std::nullopt;
    }
    const auto minor = std::from_chars(major.ptr + 1, end, version.minor);
    if (minor.ec != std::errc() || (minor.ptr != end && *minor.ptr != '.')) {
        return std::nullopt;
    }
    return version;
}

const ObjectTable& ObjectTable::of(Release release) {
    static const auto make = [](std::string_view text) {
        auto table = parse(text);
        KUMOI_ASSERT(table.ok());  // compiled in, and read by a test
        return std::move(*table);
    };
    static const ObjectTable zed = make(kObjectTableZed);
    static const ObjectTable gazpacho = make(kObjectTableGazpacho);
    return release == Release::Zed ? zed : gazpacho;
}

Result<ObjectTable> ObjectTable::parse(std::string_view text) {
    ObjectTable table;
    ObjectInfo* object = nullptr;
    for (const std::string_view line : split(text, '\n')) {
        if (line.front() == ' ') {
            if (object == nullptr) {
                return Error::corrupt("the table begins with fields of no object");
            }
            TRY(parse_line(*object, line));
            continue;
        }
        const size_t space = line.find(' ');
        const auto version = space == std::string_view::npos
                                 ? std::nullopt
                                 : ObjectVersion::parse(line.substr(space + 1));
        if (!version) {
            return Error::corrupt("'{}' is not an object and its version", line.substr(0, 80));
        }
        const std::string name(line.substr(0, space));
        object = &table.objects_[name];
        object->name = name;
        object->version = line.substr(space + 1);
    }
    return table;
}

const ObjectInfo* ObjectTable::find(std::string_view name) const {
    const auto found = objects_.find(name);
    return found == objects_.end() ? nullptr : &found->second;
}

void ObjectTable::reach(const std::string& name, std::set<std::string>& seen,
                        std::vector<std::string>& order) const {
    const ObjectInfo* object = find(name);
    if (object == nullptr || !seen.insert(name).second) {
        return;
    }
    order.push_back(name);
    for (const auto& [field, type] : object->fields) {
        const FieldType* inner = &type;
        while (inner->element) {
            inner = inner->element.get();
        }
        if (inner->kind == FieldType::Kind::Object) {
            reach(inner->object_name, seen, order);
        }
    }
}

Json ObjectTable::manifest(std::string_view name) const {
    std::set<std::string> seen;
    std::vector<std::string> order;
    reach(std::string(name), seen, order);
    Json versions = Json::object();
    for (const std::string& reached : order) {
        versions.set(reached, find(reached)->version);
    }
    return versions;
}

Result<void> ObjectTable::check(const FieldType& type, const Json& value,
                                std::string_view place) const {
    using Kind = FieldType::Kind;
    if (value.is_null()) {
        return type.nullable ? Result<void>() : wrong(place, value, "a value");
    }
    switch (type.kind) {
        case Kind::Text:
        case Kind::DateTime:
            return value.is_string() ? Result<void>() : wrong(place, value, "text");
        case Kind::Integer:
            return value.is_integer() ? Result<void>() : wrong(place, value, "an integer");
        case Kind::Float:
            return value.is_number() ? Result<void>() : wrong(place, value, "a number");
        case Kind::Boolean:
            return value.is_bool() ? Result<void>() : wrong(place, value, "true or false");
        case Kind::Enum:
            return value.is_string() && std::find(type.values.begin(), type.values.end(),
                                                  value.as_string()) != type.values.end()
                       ? Result<void>()
                       : wrong(place, value, "one of the field's values");
        case Kind::Items:
            if (!value.is_array()) {
                return wrong(place, value, "a list");
            }
            for (const Json& item : value.as_array()) {
                TRY(check(*type.element, item, place));
            }
            return {};
        case Kind::Map:
            if (!value.is_object()) {
                return wrong(place, value, "a dictionary");
            }
            for (const auto& [key, item] : value.as_object()) {
                TRY(check(*type.element, item, place));
            }
            return {};
        case Kind::Object:
            if (!type.subclasses && value.string_or("nova_object.name") != type.object_name) {
                return wrong(place, value, "object " + type.object_name);
            }
            return {};
    }
    return {};
}

}  // namespace kumoi::nova
