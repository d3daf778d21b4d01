#include "base/python_json.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <iterator>

namespace kumoi {
namespace {

constexpr uint32_t kReplacement = 0xfffd;

void append_unit(std::string& out, uint32_t unit) {
    fmt::format_to(std::back_inserter(out), "\\u{:04x}", unit);
}

void append_code_point(std::string& out, uint32_t code_point) {
    if (code_point >= 0x10000) {
        append_unit(out, 0xd800 + ((code_point - 0x10000) >> 10));
        append_unit(out, 0xdc00 + ((code_point - 0x10000) & 0x3ff));
        return;
    }
    append_unit(out, code_point);
}

// Decodes one UTF-8 sequence at `index` and moves behind it; a broken one is U+FFFD, one byte long.
uint32_t next_code_point(std::string_view text, size_t& index) {
    const auto lead = static_cast<uint8_t>(text[index]);
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
    if (length == 0 || lead > 0xf4 || index + length > text.size()) {
        ++index;
        return kReplacement;
    }
    uint32_t code_point = lead & (0xffu >> (length + 1));
    for (size_t at = index + 1; at < index + length; ++at) {
        const auto byte = static_cast<uint8_t>(text[at]);
        if ((byte & 0xc0) != 0x80) {
            ++index;
            return kReplacement;
        }
        code_point = code_point << 6 | (byte & 0x3f);
    }
    const bool overlong =
        (length == 3 && code_point < 0x800) || (length == 4 && code_point < 0x10000);
    const bool surrogate = code_point >= 0xd800 && code_point < 0xe000;
    if (overlong || surrogate || code_point > 0x10ffff) {
        ++index;
        return kReplacement;
    }
    index += length;
    return code_point;
}

char short_escape(char byte) {
    switch (byte) {
        case '"': return '"';
        case '\\': return '\\';
        case '\n': return 'n';
        case '\r': return 'r';
        case '\t': return 't';
        case '\b': return 'b';
        case '\f': return 'f';
        default: return 0;
    }
}

// float.__repr__: the shortest digits that read back, with ".0" where nothing says it is a float.
void dump_double(std::string& out, double value) {
    if (std::isnan(value)) {
        out += "NaN";
        return;
    }
    if (std::isinf(value)) {
        out += value > 0 ? "Infinity" : "-Infinity";
        return;
    }
    const std::string digits = fmt::format("{}", value);
    out += digits;
    if (digits.find_first_of(".e") == std::string::npos) {
        out += ".0";
    }
}

void dump_object(std::string& out, const Json::Object& members) {
    out.push_back('{');
    bool first = true;
    for (const auto& [key, value] : members) {
        out += first ? "" : ", ";
        first = false;
        python_dump_string(out, key);
        out += ": ";
        python_dump_to(out, value);
    }
    out.push_back('}');
}

void dump_array(std::string& out, const Json::Array& items) {
    out.push_back('[');
    bool first = true;
    for (const Json& item : items) {
        out += first ? "" : ", ";
        first = false;
        python_dump_to(out, item);
    }
    out.push_back(']');
}

}  // namespace

void python_dump_string(std::string& out, std::string_view text) {
    out.push_back('"');
    for (size_t index = 0; index < text.size();) {
        const char byte = text[index];
        if (const char escape = short_escape(byte); escape != 0) {
            out.push_back('\\');
            out.push_back(escape);
            ++index;
        } else if (byte >= ' ' && byte <= '~') {
            out.push_back(byte);
            ++index;
        } else if (static_cast<uint8_t>(byte) < 0x80) {
            append_unit(out, static_cast<uint8_t>(byte));
            ++index;
        } else {
            append_code_point(out, next_code_point(text, index));
        }
    }
    out.push_back('"');
}

void python_dump_to(std::string& out, const Json& json) {
    if (json.is_string()) {
        python_dump_string(out, json.as_string());
    } else if (json.is_object()) {
        dump_object(out, json.as_object());
    } else if (json.is_array()) {
        dump_array(out, json.as_array());
    } else if (json.is_number() && !json.is_integer()) {
        dump_double(out, json.as_double());
    } else {
        json.append_to(out);  // null, booleans and integers read the same everywhere
    }
}

std::string python_dump(const Json& json) {
    std::string out;
    python_dump_to(out, json);
    return out;
}

}  // namespace kumoi
