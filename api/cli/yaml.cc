#include "api/cli/yaml.h"

#include <string>
#include <vector>

namespace kumoi::cli {
namespace {

constexpr size_t kBytesMax = 1u << 20;
constexpr size_t kDepthMax = 16;

struct Line {
    size_t number;  // from 1, for messages
    size_t indent;
    std::string_view text;  // without indentation, comment and trailing blanks; never empty
};

Error bad(const Line& line, std::string_view what) {
    return Error::invalid("line {}: {}", line.number, what);
}

// Where a comment or the end of the line begins, outside of quotes.
size_t content_end(std::string_view text) {
    char quote = '\0';
    for (size_t index = 0; index < text.size(); ++index) {
        const char character = text[index];
        if (quote != '\0') {
            const bool doubled = quote == '\'' && text.substr(index, 2) == "''";
            if (doubled || (quote == '"' && character == '\\')) {
                ++index;
            } else if (character == quote) {
                quote = '\0';
            }
        } else if ((character == '"' || character == '\'') &&
                   (index == 0 || text[index - 1] == ' ' || text[index - 1] == ':' ||
                    text[index - 1] == '[' || text[index - 1] == ',' || text[index - 1] == '{')) {
            quote = character;
        } else if (character == '#' && (index == 0 || text[index - 1] == ' ')) {
            return index;
        }
    }
    return text.size();
}

Result<std::vector<Line>> split(std::string_view text) {
    std::vector<Line> lines;
    size_t number = 0;
    while (!text.empty()) {
        ++number;
        const size_t end = text.find('\n');
        std::string_view raw = text.substr(0, end);
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
        const size_t indent = raw.find_first_not_of(' ');
        if (indent == std::string_view::npos) {
            continue;
        }
        raw.remove_prefix(indent);
        raw = raw.substr(0, content_end(raw));
        raw = raw.substr(0, raw.find_last_not_of(" \t\r") + 1);
        const bool marker = raw == "---" && lines.empty();
        if (raw.empty() || marker) {
            continue;
        }
        const Line line{number, indent, raw};
        if (raw.front() == '\t') {
            return bad(line, "indented with a tab, YAML wants spaces");
        }
        if (raw == "---" || raw == "...") {
            return bad(line, "more than one document");
        }
        lines.push_back(line);
    }
    return lines;
}

Result<Json> double_quoted(const Line& line, std::string_view text) {
    const auto parsed = Json::parse(text);  // the escapes people use are JSON's
    if (!parsed.ok() || !parsed.value().is_string()) {
        return bad(line, "a double quoted text is broken");
    }
    return parsed.value();
}

Result<Json> single_quoted(const Line& line, std::string_view text) {
    if (text.size() < 2 || text.back() != '\'') {
        return bad(line, "a single quoted text does not end");
    }
    text = text.substr(1, text.size() - 2);
    std::string out;
    for (size_t index = 0; index < text.size(); ++index) {
        if (text[index] == '\'') {
            if (index + 1 == text.size() || text[index + 1] != '\'') {
                return bad(line, "a quote inside a single quoted text is written twice");
            }
            ++index;
        }
        out.push_back(text[index]);
    }
    return Json(std::move(out));
}

Result<Json> scalar(const Line& line, std::string_view text) {
    if (text.empty() || text == "~" || text == "null") {
        return Json();
    }
    if (text == "true" || text == "false") {
        return Json(text == "true");
    }
    switch (text.front()) {
        case '"': return double_quoted(line, text);
        case '\'': return single_quoted(line, text);
        case '[':
        case '{': {
            auto parsed = Json::parse(text, {.size_max = kBytesMax, .depth_max = kDepthMax});
            return parsed.ok() ? std::move(parsed)
                               : Result<Json>(bad(line, "write [...] and {...} as JSON"));
        }
        case '&':
        case '*':
        case '!': return bad(line, "anchors, aliases and tags are not understood");
        case '|':
        case '>': return bad(line, "block texts are not understood");
        case '%':
        case '@':
        case '`': return bad(line, "a plain text cannot start with this character");
        default: return Json(text);
    }
}

// "key: value" or "key:"; npos when the line is no mapping entry.
size_t colon_of(std::string_view text) {
    if (text.front() == '"' || text.front() == '\'') {
        const size_t close = text.find(text.front(), 1);
        return close == std::string_view::npos ? close : text.find(':', close);
    }
    for (size_t index = 0; index < text.size(); ++index) {
        if (text[index] == ':' && (index + 1 == text.size() || text[index + 1] == ' ')) {
            return index;
        }
    }
    return std::string_view::npos;
}

std::string_view trimmed(std::string_view text) {
    const size_t begin = text.find_first_not_of(' ');
    return begin == std::string_view::npos
               ? std::string_view()
               : text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

bool is_item(std::string_view text) {
    return text == "-" || text.starts_with("- ");
}

class Parser {
public:
    explicit Parser(std::vector<Line> lines) : lines_(std::move(lines)) {}

    Result<Json> document() {
        if (lines_.empty()) {
            return Json();
        }
        Json value = TRY(block(lines_.front().indent, 0));
        if (next_ < lines_.size()) {
            return bad(lines_[next_], "this indentation fits nothing above");
        }
        return value;
    }

private:
    Result<Json> block(size_t indent, size_t depth) {
        const Line& first = lines_[next_];
        if (depth > kDepthMax) {
            return bad(first, "nested too deeply");
        }
        if (is_item(first.text)) {
            return list(indent, depth);
        }
        if (colon_of(first.text) != std::string_view::npos) {
            return mapping(indent, depth);
        }
        ++next_;
        return scalar(first, first.text);
    }

    // What follows "key:" or "-" on the lines below; null when nothing is indented deeper.
    Result<Json> nested(size_t indent, bool list_may_align, size_t depth) {
        if (next_ < lines_.size()) {
            const Line& line = lines_[next_];
            const bool deeper = line.indent > indent;
            if (deeper || (list_may_align && line.indent == indent && is_item(line.text))) {
                return block(line.indent, depth + 1);
            }
        }
        return Json();
    }

    Result<Json> mapping(size_t indent, size_t depth) {
        Json object = Json::object();
        while (next_ < lines_.size() && lines_[next_].indent == indent &&
               !is_item(lines_[next_].text)) {
            const Line line = lines_[next_];
            const size_t colon = colon_of(line.text);
            if (colon == std::string_view::npos) {
                return bad(line, "expected \"key: value\"");
            }
            const Json key = TRY(scalar(line, trimmed(line.text.substr(0, colon))));
            const std::string name = key.is_string() ? key.as_string() : key.dump();
            const std::string_view value = trimmed(line.text.substr(colon + 1));
            ++next_;
            if (object.contains(name)) {
                return bad(line, fmt::format("{} is given twice", name));
            }
            object.set(name,
                       value.empty() ? TRY(nested(indent, true, depth)) : TRY(scalar(line, value)));
        }
        return object;
    }

    Result<Json> list(size_t indent, size_t depth) {
        Json array = Json::array();
        while (next_ < lines_.size() && lines_[next_].indent == indent &&
               is_item(lines_[next_].text)) {
            Line& line = lines_[next_];
            const size_t content = line.text.find_first_not_of(' ', 1);
            if (content == std::string_view::npos) {
                ++next_;
                array.push_back(TRY(nested(indent, false, depth)));
                continue;
            }
            // "- key: value" opens a mapping whose further keys stand below that key.
            line.indent += content;
            line.text.remove_prefix(content);
            array.push_back(TRY(block(line.indent, depth + 1)));
        }
        return array;
    }

    std::vector<Line> lines_;
    size_t next_ = 0;
};

}  // namespace

Result<Json> parse_yaml(std::string_view text) {
    if (text.size() > kBytesMax) {
        return Error::too_large("{} bytes, at most {} are read", text.size(), kBytesMax);
    }
    return Parser(TRY(split(text))).document();
}

}  // namespace kumoi::cli
