// python_json() of vif_json.h.
#include "compute/clients/vif_json.h"

namespace kumoi::clients {
namespace {

void append_unit(std::string& out, uint32_t unit) {
    out += fmt::format("\\u{:04x}", unit);
}

// Json holds checked UTF-8, so sequences are complete.
uint32_t next_code_point(const std::string& text, size_t& place) {
    const auto byte = static_cast<unsigned char>(text[place++]);
    const int more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc0 ? 1 : 0;
    uint32_t code = more == 3   ? byte & 0x07u
                    : more == 2 ? byte & 0x0fu
                    : more == 1 ? byte & 0x1fu
                                : byte;
    for (int i = 0; i < more && place < text.size(); ++i) {
        code = code << 6 | (static_cast<unsigned char>(text[place++]) & 0x3fu);
    }
    return code;
}

void append_string(std::string& out, const std::string& text) {
    out += '"';
    for (size_t place = 0; place < text.size();) {
        const uint32_t code = next_code_point(text, place);
        switch (code) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            case '\b': out += "\\b"; break;
            case '\f': out += "\\f"; break;
            default:
                if (code >= 0x10000) {
                    append_unit(out, 0xd800 + ((code - 0x10000) >> 10));
                    append_unit(out, 0xdc00 + ((code - 0x10000) & 0x3ff));
                } else if (code < 0x20 || code >= 0x7f) {
                    append_unit(out, code);
                } else {
                    out += static_cast<char>(code);
                }
        }
    }
    out += '"';
}

// Depth is bounded by the parser's limit.
void append_value(std::string& out, const Json& json) {  // NOLINT(misc-no-recursion)
    const char* separator = "";
    if (json.is_object()) {
        out += '{';
        for (const auto& [name, value] : json.as_object()) {
            out += separator;
            append_string(out, name);
            out += ": ";
            append_value(out, value);
            separator = ", ";
        }
        out += '}';
    } else if (json.is_array()) {
        out += '[';
        for (const Json& item : json.as_array()) {
            out += separator;
            append_value(out, item);
            separator = ", ";
        }
        out += ']';
    } else if (json.is_string()) {
        append_string(out, json.as_string());
    } else {
        json.append_to(out);
    }
}

}  // namespace

std::string python_json(const Json& json) {
    std::string out;
    append_value(out, json);
    return out;
}

}  // namespace kumoi::clients
