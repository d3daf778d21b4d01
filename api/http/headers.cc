#include "api/http/headers.h"

#include <algorithm>
#include <array>

namespace kumoi::api {
namespace {

char lower(char character) {
    return character >= 'A' && character <= 'Z' ? static_cast<char>(character - 'A' + 'a')
                                                : character;
}

// RFC 9110 §5.6.2: tchar.
constexpr std::array<bool, 256> make_token_table() {
    std::array<bool, 256> table{};
    for (char character :
         std::string_view("!#$%&'*+-.^_`|~0123456789"
                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")) {
        table[static_cast<unsigned char>(character)] = true;
    }
    return table;
}

constexpr std::array<bool, 256> kTokenCharacter = make_token_table();

}  // namespace

bool equal_ignoring_case(std::string_view left, std::string_view right) {
    return left.size() == right.size() &&
           std::equal(left.begin(), left.end(), right.begin(),
                      [](char a, char b) { return lower(a) == lower(b); });
}

std::string lower_case(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), lower);
    return out;
}

std::string_view trim(std::string_view text) {
    const size_t first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) {
        return {};
    }
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

void HeaderMap::add(std::string name, std::string value) {
    fields_.emplace_back(std::move(name), std::move(value));
}

void HeaderMap::set(std::string_view name, std::string value) {
    erase(name);
    add(std::string(name), std::move(value));
}

void HeaderMap::erase(std::string_view name) {
    std::erase_if(fields_,
                  [&](const Field& field) { return equal_ignoring_case(field.first, name); });
}

const std::string* HeaderMap::find(std::string_view name) const {
    for (const auto& [field_name, value] : fields_) {
        if (equal_ignoring_case(field_name, name)) {
            return &value;
        }
    }
    return nullptr;
}

std::optional<std::string> HeaderMap::first(std::string_view name) const {
    const std::string* value = find(name);
    return value == nullptr ? std::nullopt : std::optional<std::string>(*value);
}

std::string HeaderMap::first_or(std::string_view name, std::string_view other) const {
    const std::string* value = find(name);
    return value == nullptr ? std::string(other) : *value;
}

std::vector<std::string> HeaderMap::all(std::string_view name) const {
    std::vector<std::string> values;
    for (const auto& [field_name, value] : fields_) {
        if (equal_ignoring_case(field_name, name)) {
            values.push_back(value);
        }
    }
    return values;
}

size_t HeaderMap::count(std::string_view name) const {
    return static_cast<size_t>(
        std::count_if(fields_.begin(), fields_.end(),
                      [&](const Field& field) { return equal_ignoring_case(field.first, name); }));
}

std::vector<std::string> HeaderMap::list(std::string_view name) const {
    std::vector<std::string> members;
    for (const auto& [field_name, value] : fields_) {
        if (!equal_ignoring_case(field_name, name)) {
            continue;
        }
        for (std::string_view rest = value; !rest.empty();) {
            const size_t comma = rest.find(',');
            const std::string_view member = trim(rest.substr(0, comma));
            if (!member.empty()) {
                members.emplace_back(member);
            }
            rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
        }
    }
    return members;
}

bool HeaderMap::list_has(std::string_view name, std::string_view member) const {
    for (const std::string& item : list(name)) {
        if (equal_ignoring_case(item, member)) {
            return true;
        }
    }
    return false;
}

bool valid_header_name(std::string_view name) {
    return !name.empty() && std::all_of(name.begin(), name.end(), [](char character) {
        return kTokenCharacter[static_cast<unsigned char>(character)];
    });
}

bool valid_header_value(std::string_view value) {
    return std::all_of(value.begin(), value.end(), [](char character) {
        const auto byte = static_cast<unsigned char>(character);
        return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
    });
}

}  // namespace kumoi::api
