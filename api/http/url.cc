#include "api/http/url.h"

#include <algorithm>
#include <array>

namespace kumoi::api {
namespace {

int hex_digit(char character) {
    if (character >= '0' && character <= '9') {
        return character - '0';
    }
    if (character >= 'a' && character <= 'f') {
        return character - 'a' + 10;
    }
    if (character >= 'A' && character <= 'F') {
        return character - 'A' + 10;
    }
    return -1;
}

// Length of the UTF-8 sequence at the start of `text`, 0 when malformed (RFC 3629: no overlong
// forms, no surrogates, nothing above U+10FFFF).
size_t utf8_sequence_length(std::string_view text) {
    const auto byte = [&](size_t index) { return static_cast<unsigned char>(text[index]); };
    const auto continues = [&](size_t index) {
        return index < text.size() && (byte(index) & 0xc0) == 0x80;
    };
    const unsigned lead = byte(0);
    if (lead < 0x80) {
        return 1;
    }
    if (lead >= 0xc2 && lead <= 0xdf) {
        return continues(1) ? 2 : 0;
    }
    if (lead >= 0xe0 && lead <= 0xef) {
        const bool in_range =
            continues(1) && (lead != 0xe0 || byte(1) >= 0xa0) && (lead != 0xed || byte(1) <= 0x9f);
        return in_range && continues(2) ? 3 : 0;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        const bool in_range =
            continues(1) && (lead != 0xf0 || byte(1) >= 0x90) && (lead != 0xf4 || byte(1) <= 0x8f);
        return in_range && continues(2) && continues(3) ? 4 : 0;
    }
    return 0;
}

Result<std::string> decode_part(std::string_view text, bool plus_is_space, std::string_view what) {
    auto decoded = percent_decode(text, plus_is_space);
    if (!decoded) {
        return Error::invalid("The {} of the URL has a broken percent escape", what)
            .with_hint("write '%' itself as %25");
    }
    if (decoded->find('\0') != std::string::npos || !valid_utf8(*decoded)) {
        return Error::invalid("The {} of the URL is not UTF-8 text after percent decoding", what);
    }
    return std::move(*decoded);
}

Result<std::vector<std::string>> parse_segments(std::string_view path) {
    std::vector<std::string> segments;
    std::string_view rest = path.substr(1);
    if (!rest.empty() && rest.back() == '/') {
        rest.remove_suffix(1);
    } else if (rest.empty()) {
        return segments;
    }
    while (true) {
        if (segments.size() == kPathSegmentCountMax) {
            return Error::invalid("The path of the URL has more than {} segments",
                                  kPathSegmentCountMax);
        }
        const size_t slash = rest.find('/');
        segments.push_back(TRY(decode_part(rest.substr(0, slash), false, "path")));
        if (slash == std::string_view::npos) {
            return segments;
        }
        rest.remove_prefix(slash + 1);
    }
}

Result<QueryMap> parse_query(std::string_view text) {
    QueryMap query;
    while (!text.empty()) {
        const size_t ampersand = text.find('&');
        const std::string_view item = text.substr(0, ampersand);
        text =
            ampersand == std::string_view::npos ? std::string_view() : text.substr(ampersand + 1);
        if (item.empty()) {
            continue;
        }
        if (query.size() == kQueryParameterCountMax) {
            return Error::invalid("The URL has more than {} query parameters",
                                  kQueryParameterCountMax);
        }
        const size_t equals = item.find('=');
        std::string name = TRY(decode_part(item.substr(0, equals), true, "query"));
        std::string value;
        if (equals != std::string_view::npos) {
            value = TRY(decode_part(item.substr(equals + 1), true, "query"));
        }
        query.add(std::move(name), std::move(value));
    }
    return query;
}

// "http://host:port/path" -> authority and the rest, which starts with '/' or '?' or is empty.
Result<std::string_view> strip_scheme(std::string_view raw_target, Target& target) {
    const size_t scheme_end = raw_target.find("://");
    const std::string_view scheme = raw_target.substr(0, scheme_end);
    if (scheme_end == std::string_view::npos || (scheme != "http" && scheme != "https")) {
        return Error::invalid("The request target is neither a path nor an http URL");
    }
    const std::string_view rest = raw_target.substr(scheme_end + 3);
    const size_t authority_end = rest.find_first_of("/?");
    target.authority = rest.substr(0, authority_end);
    if (target.authority.empty()) {
        return Error::invalid("The request target is a URL without a host");
    }
    return authority_end == std::string_view::npos ? std::string_view()
                                                   : rest.substr(authority_end);
}

}  // namespace

void QueryMap::add(std::string name, std::string value) {
    parameters_.emplace_back(std::move(name), std::move(value));
}

const std::string* QueryMap::find(std::string_view name) const {
    for (const auto& [parameter_name, value] : parameters_) {
        if (parameter_name == name) {
            return &value;
        }
    }
    return nullptr;
}

std::optional<std::string> QueryMap::first(std::string_view name) const {
    const std::string* value = find(name);
    return value == nullptr ? std::nullopt : std::optional<std::string>(*value);
}

std::string QueryMap::first_or(std::string_view name, std::string_view other) const {
    const std::string* value = find(name);
    return value == nullptr ? std::string(other) : *value;
}

std::vector<std::string> QueryMap::all(std::string_view name) const {
    std::vector<std::string> values;
    for (const auto& [parameter_name, value] : parameters_) {
        if (parameter_name == name) {
            values.push_back(value);
        }
    }
    return values;
}

void QueryMap::erase(std::string_view name) {
    std::erase_if(parameters_, [&](const Parameter& parameter) { return parameter.first == name; });
}

void QueryMap::set(std::string_view name, std::string value) {
    erase(name);
    add(std::string(name), std::move(value));
}

std::string QueryMap::encode() const {
    std::string out;
    for (const auto& [name, value] : parameters_) {
        if (!out.empty()) {
            out += '&';
        }
        out += percent_encode(name) + '=' + percent_encode(value);
    }
    return out;
}

Result<Target> parse_target(std::string_view raw_target) {
    Target target;
    if (raw_target == "*") {
        target.path = "*";
        return target;
    }
    std::string_view rest = raw_target;
    if (!rest.starts_with('/')) {
        rest = TRY(strip_scheme(raw_target, target));
    }
    if (rest.find('#') != std::string_view::npos) {
        return Error::invalid("The request target has a fragment, which clients must not send");
    }
    const size_t question = rest.find('?');
    target.path = rest.substr(0, question);
    if (target.path.empty()) {
        target.path = "/";
    }
    target.segments = TRY(parse_segments(target.path));
    if (question != std::string_view::npos) {
        target.query = TRY(parse_query(rest.substr(question + 1)));
    }
    return target;
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
    std::string out;
    out.reserve(text.size());
    for (size_t index = 0; index < text.size(); ++index) {
        const char character = text[index];
        if (character == '+' && plus_is_space) {
            out += ' ';
        } else if (character != '%') {
            out += character;
        } else {
            if (index + 2 >= text.size()) {
                return std::nullopt;
            }
            const int high = hex_digit(text[index + 1]);
            const int low = hex_digit(text[index + 2]);
            if (high < 0 || low < 0) {
                return std::nullopt;
            }
            out += static_cast<char>(high * 16 + low);
            index += 2;
        }
    }
    return out;
}

std::string percent_encode(std::string_view text) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    std::string out;
    out.reserve(text.size());
    for (char character : text) {
        const auto byte = static_cast<unsigned char>(character);
        const bool letter_or_digit = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                                     (byte >= 'a' && byte <= 'z');
        if (letter_or_digit || byte == '-' || byte == '.' || byte == '_' || byte == '~') {
            out += character;
        } else {
            out += '%';
            out += kHex[byte >> 4];
            out += kHex[byte & 15];
        }
    }
    return out;
}

bool valid_utf8(std::string_view text) {
    while (!text.empty()) {
        const size_t length = utf8_sequence_length(text);
        if (length == 0) {
            return false;
        }
        text.remove_prefix(length);
    }
    return true;
}

}  // namespace kumoi::api
