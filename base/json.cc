#include "base/json.h"

#include <rapidjson/error/en.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace kumoi {
namespace {

// Builds a Json from RapidJSON's event stream with an explicit stack, so that depth costs heap and
// is limited. Returns false to stop the reader; `refusal` then says why.
class Builder {
public:
    explicit Builder(size_t depth_max) : depth_max_(depth_max) {}

    bool Null() { return add(Json()); }
    bool Bool(bool value) { return add(Json(value)); }
    // Numbers arrive as text (kParseNumbersAsStringsFlag): RapidJSON 1.1's own conversion runs into
    // undefined behaviour for a zero with an exponent; from_chars is exact and does not.
    bool RawNumber(const char* text, rapidjson::SizeType size, bool) {
        const char* end = text + size;
        if (const auto value = whole<int64_t>(text, end)) {
            return add(Json(*value));
        }
        if (const auto value = whole<uint64_t>(text, end)) {
            return add(Json(*value));
        }
        const auto value = whole<double>(text, end);
        return value && std::isfinite(*value) && add(Json(*value));
    }
    bool Int(int) { return false; }
    bool Uint(unsigned) { return false; }
    bool Int64(int64_t) { return false; }
    bool Uint64(uint64_t) { return false; }
    bool Double(double) { return false; }
    bool String(const char* text, rapidjson::SizeType size, bool) {
        return is_unicode({text, size}) && add(Json(std::string(text, size)));
    }
    bool StartObject() { return push(Json::object()); }
    bool Key(const char* text, rapidjson::SizeType size, bool) {
        keys_.back().assign(text, size);
        return is_unicode({text, size});
    }
    bool EndObject(rapidjson::SizeType) { return pop(); }
    bool StartArray() { return push(Json::array()); }
    bool EndArray(rapidjson::SizeType) { return pop(); }

    Json take() { return std::move(root_); }
    bool too_deep() const { return too_deep_; }

private:
    template <class T>
    static std::optional<T> whole(const char* begin, const char* end) {
        T value{};
        const auto [stopped, error] = std::from_chars(begin, end, value);
        return error == std::errc() && stopped == end ? std::optional<T>(value) : std::nullopt;
    }
    // RapidJSON 1.1 turns a lone escaped low surrogate ("\\ude00") into its three-byte form, which
    // no UTF-8 reader takes (RFC 3629 §3): ED A0..BF.
    static bool is_unicode(std::string_view text) {
        for (size_t at = text.find('\xed'); at != std::string_view::npos;
             at = text.find('\xed', at + 1)) {
            if (at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) >= 0xa0) {
                return false;
            }
        }
        return true;
    }
    bool push(Json container) {
        if (stack_.size() >= depth_max_) {
            too_deep_ = true;
            return false;
        }
        stack_.push_back(std::move(container));
        keys_.emplace_back();
        return true;
    }
    bool pop() {
        Json finished = std::move(stack_.back());
        stack_.pop_back();
        keys_.pop_back();
        return add(std::move(finished));
    }
    bool add(Json value) {
        if (stack_.empty()) {
            root_ = std::move(value);
            return true;
        }
        Json& parent = stack_.back();
        if (parent.is_array()) {
            parent.as_array().push_back(std::move(value));
        } else {
            parent.as_object().emplace_back(keys_.back(),
                                            std::move(value));  // find() sees the first
        }
        return true;
    }

    size_t depth_max_;
    bool too_deep_ = false;
    Json root_;
    std::vector<Json> stack_;
    std::vector<std::string> keys_;
};

template <class Writer>
void write(Writer& writer, const Json& json) {
    if (json.is_null()) {
        writer.Null();
    } else if (json.is_bool()) {
        writer.Bool(json.as_bool());
    } else if (json.is_integer()) {
        if (const auto value = json.to_int64()) {
            writer.Int64(*value);
        } else {
            writer.Uint64(*json.to_uint64());
        }
    } else if (json.is_number()) {
        const double value = json.as_double();
        if (std::isfinite(value)) {
            writer.Double(value);
        } else {
            writer.Null();  // JSON has no infinities
        }
    } else if (json.is_string()) {
        writer.String(json.as_string().data(),
                      static_cast<rapidjson::SizeType>(json.as_string().size()));
    } else if (json.is_array()) {
        writer.StartArray();
        for (const Json& item : json.as_array()) {
            write(writer, item);
        }
        writer.EndArray();
    } else {
        writer.StartObject();
        for (const auto& [key, value] : json.as_object()) {
            writer.Key(key.data(), static_cast<rapidjson::SizeType>(key.size()));
            write(writer, value);
        }
        writer.EndObject();
    }
}

size_t edit_distance(std::string_view left, std::string_view right) {
    std::vector<size_t> row(right.size() + 1);
    for (size_t column = 0; column <= right.size(); ++column) {
        row[column] = column;
    }
    for (size_t line = 1; line <= left.size(); ++line) {
        size_t diagonal = std::exchange(row[0], line);
        for (size_t column = 1; column <= right.size(); ++column) {
            const size_t substituted = diagonal + (left[line - 1] == right[column - 1] ? 0 : 1);
            diagonal = row[column];
            row[column] = std::min({row[column] + 1, row[column - 1] + 1, substituted});
        }
    }
    return row.back();
}

}  // namespace

Json Json::object(std::initializer_list<Member> members) {
    Json json;
    json.value_ = Object(members);
    return json;
}

Result<Json> Json::parse(std::string_view text, JsonLimits limits) {
    if (text.size() > limits.size_max) {
        return Error::too_large("JSON text of {} bytes is over the limit of {}", text.size(),
                                limits.size_max);
    }
    rapidjson::MemoryStream memory(text.data(), text.size());
    rapidjson::EncodedInputStream<rapidjson::UTF8<>, rapidjson::MemoryStream> stream(memory);
    rapidjson::Reader reader;
    Builder builder(limits.depth_max);
    constexpr unsigned kFlags = rapidjson::kParseIterativeFlag |
                                rapidjson::kParseValidateEncodingFlag |
                                rapidjson::kParseNumbersAsStringsFlag;
    const auto outcome = reader.Parse<kFlags>(stream, builder);
    if (builder.too_deep()) {
        return Error::invalid("JSON is nested deeper than {} levels at byte {}", limits.depth_max,
                              outcome.Offset());
    }
    if (outcome.IsError()) {
        return Error::invalid("JSON is malformed at byte {}: {}", outcome.Offset(),
                              rapidjson::GetParseError_En(outcome.Code()));
    }
    return builder.take();
}

std::string Json::dump() const {
    std::string out;
    append_to(out);
    return out;
}

void Json::append_to(std::string& out) const {
    rapidjson::StringBuffer buffer;
    rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
    write(writer, *this);
    out.append(buffer.GetString(), buffer.GetSize());
}

std::string Json::dump_pretty() const {
    rapidjson::StringBuffer buffer;
    rapidjson::PrettyWriter<rapidjson::StringBuffer> writer(buffer);
    writer.SetIndent(' ', 2);
    write(writer, *this);
    return {buffer.GetString(), buffer.GetSize()};
}

bool Json::is_integer() const {
    return std::holds_alternative<int64_t>(value_) || std::holds_alternative<uint64_t>(value_);
}

std::string_view Json::type_name() const {
    if (is_null()) {
        return "null";
    }
    if (is_bool()) {
        return "boolean";
    }
    if (is_integer()) {
        return "integer";
    }
    if (is_number()) {
        return "number";
    }
    if (is_string()) {
        return "string";
    }
    return is_array() ? "array" : "object";
}

bool Json::as_bool() const {
    KUMOI_ASSERT(is_bool());
    return std::get<bool>(value_);
}

std::optional<int64_t> Json::to_int64() const {
    if (const auto* value = std::get_if<int64_t>(&value_)) {
        return *value;
    }
    if (const auto* value = std::get_if<uint64_t>(&value_);
        value != nullptr && *value <= INT64_MAX) {
        return static_cast<int64_t>(*value);
    }
    return std::nullopt;
}

std::optional<uint64_t> Json::to_uint64() const {
    if (const auto* value = std::get_if<uint64_t>(&value_)) {
        return *value;
    }
    if (const auto* value = std::get_if<int64_t>(&value_); value != nullptr && *value >= 0) {
        return static_cast<uint64_t>(*value);
    }
    return std::nullopt;
}

int64_t Json::as_int64() const {
    const auto value = to_int64();
    KUMOI_ASSERT(value.has_value());
    return *value;
}

double Json::as_double() const {
    KUMOI_ASSERT(is_number());
    if (const auto* value = std::get_if<double>(&value_)) {
        return *value;
    }
    if (const auto* value = std::get_if<uint64_t>(&value_)) {
        return static_cast<double>(*value);
    }
    return static_cast<double>(std::get<int64_t>(value_));
}

const std::string& Json::as_string() const {
    KUMOI_ASSERT(is_string());
    return std::get<std::string>(value_);
}

const Json::Array& Json::as_array() const {
    KUMOI_ASSERT(is_array());
    return std::get<Array>(value_);
}

Json::Array& Json::as_array() {
    KUMOI_ASSERT(is_array());
    return std::get<Array>(value_);
}

const Json::Object& Json::as_object() const {
    KUMOI_ASSERT(is_object());
    return std::get<Object>(value_);
}

Json::Object& Json::as_object() {
    KUMOI_ASSERT(is_object());
    return std::get<Object>(value_);
}

const Json* Json::find(std::string_view key) const {
    if (const auto* members = std::get_if<Object>(&value_)) {
        for (const Member& member : *members) {
            if (member.first == key) {
                return &member.second;
            }
        }
    }
    return nullptr;
}

Json* Json::find(std::string_view key) {
    return const_cast<Json*>(static_cast<const Json*>(this)->find(key));
}

Json& Json::operator[](std::string_view key) {
    if (is_null()) {
        value_ = Object();
    }
    if (Json* found = find(key)) {
        return *found;
    }
    as_object().emplace_back(std::string(key), Json());
    return as_object().back().second;
}

bool Json::erase(std::string_view key) {
    auto* members = std::get_if<Object>(&value_);
    return members != nullptr &&
           std::erase_if(*members, [&](const Member& member) { return member.first == key; }) > 0;
}

const Json* Json::find_path(std::initializer_list<std::string_view> keys) const {
    const Json* here = this;
    for (const std::string_view key : keys) {
        here = here->find(key);
        if (here == nullptr) {
            return nullptr;
        }
    }
    return here;
}

std::string Json::string_or(std::string_view key, std::string_view other) const {
    const Json* found = find(key);
    return found != nullptr && found->is_string() ? found->as_string() : std::string(other);
}

int64_t Json::integer_or(std::string_view key, int64_t other) const {
    const Json* found = find(key);
    return found != nullptr ? found->to_int64().value_or(other) : other;
}

bool Json::bool_or(std::string_view key, bool other) const {
    const Json* found = find(key);
    return found != nullptr && found->is_bool() ? found->as_bool() : other;
}

void Json::push_back(Json value) {
    if (is_null()) {
        value_ = Array();
    }
    as_array().push_back(std::move(value));
}

size_t Json::size() const {
    if (is_array()) {
        return as_array().size();
    }
    return is_object() ? as_object().size() : 0;
}

bool Json::operator==(const Json& other) const {
    if (is_integer() && other.is_integer()) {
        return to_int64() == other.to_int64() && to_uint64() == other.to_uint64();
    }
    if (is_object() && other.is_object()) {
        // By what find() gives: of duplicate keys the first. So an object equals itself.
        const auto covers = [](const Json& left, const Json& right) {
            return std::all_of(left.as_object().begin(), left.as_object().end(),
                               [&](const Member& member) {
                                   const Json* twin = right.find(member.first);
                                   return twin != nullptr && *twin == *left.find(member.first);
                               });
        };
        return size() == other.size() && covers(*this, other) && covers(other, *this);
    }
    return value_ == other.value_;
}

std::optional<std::string> nearest_name(std::string_view name,
                                        const std::vector<std::string>& candidates) {
    std::optional<std::string> best;
    size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
    for (const std::string& candidate : candidates) {
        const size_t distance = edit_distance(name.substr(0, 128), candidate);
        if (distance < best_distance) {
            best_distance = distance;
            best = candidate;
        }
    }
    return best;
}

}  // namespace kumoi
