#include "base/config.h"

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "base/json.h"

namespace kumoi {
namespace {

std::string_view type_name(OptionType type) {
    switch (type) {
        case OptionType::String: return "string";
        case OptionType::Integer: return "integer";
        case OptionType::Float: return "floating point";
        case OptionType::Boolean: return "boolean";
        case OptionType::List: return "list, comma separated";
        case OptionType::Multi: return "multi valued";
        case OptionType::Path: return "path";
        case OptionType::HostPort: return "address:port";
    }
    return "string";
}

std::optional<bool> parse_boolean(std::string_view text) {
    std::string lower(text);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char character) {
        return static_cast<char>(std::tolower(character));
    });
    for (const char* word : {"true", "1", "yes", "on"}) {
        if (lower == word) {
            return true;
        }
    }
    for (const char* word : {"false", "0", "no", "off"}) {
        if (lower == word) {
            return false;
        }
    }
    return std::nullopt;
}

template <class T>
std::optional<T> parse_number(std::string_view text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return value;
}

std::string trim(std::string_view text) {
    const size_t begin = text.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) {
        return {};
    }
    return std::string(text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1));
}

std::string option_label(const Option& option) {
    return fmt::format("[{}] {}", option.section, option.name);
}

std::string range_text(const Option& option) {
    if (option.min && option.max) {
        return fmt::format("{} to {}", *option.min, *option.max);
    }
    if (option.min) {
        return fmt::format("at least {}", *option.min);
    }
    return option.max ? fmt::format("at most {}", *option.max) : std::string();
}

Result<void> check_integer(const Option& option, const std::string& value) {
    const auto number = parse_number<int64_t>(value);
    if (!number) {
        return Error::invalid("{} is '{}', which is not an integer", option_label(option), value);
    }
    if ((option.min && *number < *option.min) || (option.max && *number > *option.max)) {
        return Error::invalid("{} is {}, outside its range: {}", option_label(option), *number,
                              range_text(option));
    }
    return {};
}

Result<void> check_host_port(const Option& option, const std::string& value) {
    const size_t colon = value.rfind(':');
    const auto port = colon == std::string::npos
                          ? std::nullopt
                          : parse_number<int64_t>(std::string_view(value).substr(colon + 1));
    if (!port || *port < 0 || *port > 65535 || colon == 0) {
        return Error::invalid("{} is '{}', which is not address:port", option_label(option), value)
            .with_hint("For example 127.0.0.1:8774.");
    }
    return {};
}

Result<void> check_choice(const Option& option, const std::string& value) {
    if (option.choices.empty() ||
        std::find(option.choices.begin(), option.choices.end(), value) != option.choices.end()) {
        return {};
    }
    std::string all;
    for (const std::string& choice : option.choices) {
        all += (all.empty() ? "" : ", ") + choice;
    }
    return Error::invalid("{} is '{}'; it can be: {}", option_label(option), value, all);
}

Result<void> check_value(const Option& option, const std::string& value) {
    switch (option.type) {
        case OptionType::Integer: return check_integer(option, value);
        case OptionType::Float:
            if (!parse_number<double>(value)) {
                return Error::invalid("{} is '{}', which is not a number", option_label(option),
                                      value);
            }
            return {};
        case OptionType::Boolean:
            if (!parse_boolean(value)) {
                return Error::invalid("{} is '{}', which is neither true nor false",
                                      option_label(option), value);
            }
            return {};
        case OptionType::HostPort: return check_host_port(option, value);
        case OptionType::Path:
            if (!value.empty() && value.front() != '/') {
                return Error::invalid("{} is '{}', which is not an absolute path",
                                      option_label(option), value);
            }
            return {};
        case OptionType::String: return check_choice(option, value);
        case OptionType::List:
        case OptionType::Multi: return {};
    }
    return {};
}

Error unknown_option(const OptionTable& table, const std::string& section,
                     const std::string& name) {
    const auto sections = table.sections();
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) {
        Error error = Error::invalid("there is no section [{}]", section);
        const auto near = nearest_name(section, sections);
        return near ? std::move(error).with_hint(fmt::format("Did you mean [{}]?", *near)) : error;
    }
    std::vector<std::string> names;
    for (const Option& option : table.options()) {
        if (option.section == section) {
            names.push_back(option.name);
        } else if (option.name == name) {
            return Error::invalid("there is no option {} in section [{}]", name, section)
                .with_hint(fmt::format("{} belongs into section [{}].", name, option.section));
        }
    }
    Error error = Error::invalid("there is no option {} in section [{}]", name, section);
    const auto near = nearest_name(name, names);
    return near ? std::move(error).with_hint(fmt::format("Did you mean {}?", *near)) : error;
}

std::string section_key(std::string_view name) {
    std::string upper(name);
    std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char character) {
        return static_cast<char>(std::toupper(character));
    });
    return upper.empty() || upper == "DEFAULT" ? "DEFAULT" : std::string(name);
}

// An indented line continues the value before it. Our own reader and not inih, because that cuts
// lines at INI_MAX_LINE = 200 bytes, and a transport_url with several brokers is longer.
std::string join_continuations(std::string_view text) {
    std::string joined;
    size_t begin = 0;
    bool value_open = false;
    while (begin < text.size()) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        const std::string_view line = text.substr(begin, end - begin);
        const std::string content = trim(line);
        const bool indented = !line.empty() && (line.front() == ' ' || line.front() == '\t');
        const bool comment = !content.empty() && (content.front() == '#' || content.front() == ';');
        if (indented && value_open && !content.empty() && !comment) {
            joined.back() = ' ';
            joined += content + "\n";
        } else {
            joined += content + "\n";
            value_open = !content.empty() && !comment && content.front() != '[';
        }
        begin = end + 1;
    }
    return joined;
}

std::vector<std::string> split_list(const std::string& text) {
    std::vector<std::string> items;
    size_t begin = 0;
    while (begin <= text.size()) {
        const size_t end = std::min(text.find(',', begin), text.size());
        const std::string item = trim(std::string_view(text).substr(begin, end - begin));
        if (!item.empty()) {
            items.push_back(item);
        }
        begin = end + 1;
    }
    return items;
}

std::string wrapped_comment(const std::string& text) {
    std::string out;
    std::string line = "#";
    size_t begin = 0;
    while (begin < text.size()) {
        const size_t end = std::min(text.find(' ', begin), text.size());
        const std::string word = text.substr(begin, end - begin);
        if (line.size() + 1 + word.size() > 90) {
            out += line + "\n";
            line = "#";
        }
        line += " " + word;
        begin = end + 1;
    }
    return out + line + "\n";
}

}  // namespace

void OptionTable::add(Option option) {
    KUMOI_ASSERT(!option.help.empty());
    KUMOI_ASSERT(find(option.section, option.name) == nullptr);
    KUMOI_ASSERT(option.default_value.empty() || check_value(option, option.default_value).ok());
    options_.push_back(std::move(option));
}

void OptionTable::add_all(const std::vector<Option>& options) {
    for (const Option& option : options) {
        add(option);
    }
}

const Option* OptionTable::find(std::string_view section, std::string_view name) const {
    const auto found = std::find_if(options_.begin(), options_.end(), [&](const Option& option) {
        return option.section == section && option.name == name;
    });
    return found == options_.end() ? nullptr : &*found;
}

std::vector<std::string> OptionTable::sections() const {
    std::vector<std::string> names;
    for (const Option& option : options_) {
        if (std::find(names.begin(), names.end(), option.section) == names.end()) {
            names.push_back(option.section);
        }
    }
    return names;
}

std::string OptionTable::sample() const {
    std::string out;
    for (const std::string& section : sections()) {
        out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
        for (const Option& option : options_) {
            if (option.section != section) {
                continue;
            }
            out += "\n" + wrapped_comment(option.help);
            const std::string range = range_text(option);
            out += fmt::format("# Type: {}{}{}\n", type_name(option.type),
                               range.empty() ? "" : ", ", range);
            for (const std::string& choice : option.choices) {
                out += fmt::format("#   can be: {}\n", choice);
            }
            out += fmt::format("#{} = {}\n", option.name, option.default_value);
        }
    }
    return out;
}

Result<Config> Config::parse(std::string_view text, const OptionTable& table,
                             std::string_view source_name) {
    Config config;
    config.table_ = &table;
    TRY_CONTEXT(config.take_text(text, nullptr), "{}", source_name);
    TRY_CONTEXT(config.check_values(), "{}", source_name);
    return config;
}

Result<Config> Config::parse_shared(std::string_view text, const OptionTable& table,
                                    std::vector<std::string>& unknown,
                                    std::string_view source_name) {
    Config config;
    config.table_ = &table;
    TRY_CONTEXT(config.take_text(text, &unknown), "{}", source_name);
    for (auto& [key, values] : config.values_) {
        for (std::string& value : values) {
            value = config.substituted(key.first, value, 0);
        }
    }
    std::erase_if(config.values_, [&table](const auto& entry) {
        const std::string& value = entry.second.back();
        const OptionType type = table.find(entry.first.first, entry.first.second)->type;
        return value == "<None>" || (value.empty() && type != OptionType::String &&
                                     type != OptionType::Path && type != OptionType::Multi);
    });
    TRY_CONTEXT(config.check_values(), "{}", source_name);
    return config;
}

Result<void> Config::take_text(std::string_view text, std::vector<std::string>* unknown) {
    const std::string joined = join_continuations(text);
    std::string section = "DEFAULT";
    size_t begin = 0;
    while (begin < joined.size()) {
        const size_t end = std::min(joined.find('\n', begin), joined.size());
        const std::string line = joined.substr(begin, end - begin);
        begin = end + 1;
        if (!line.empty() && line.front() != '#' && line.front() != ';') {
            TRY(take_line(line, section, unknown));
        }
    }
    return {};
}

Result<void> Config::check_values() const {
    for (const auto& [key, values] : values_) {
        for (const std::string& value : values) {
            TRY(check_value(*table_->find(key.first, key.second), value));
        }
    }
    return {};
}

// oslo.config's substitution: names in the value's own section come first, then DEFAULT's. What
// names no option stays as it is.
std::string Config::substituted(const std::string& section, std::string value, int depth) const {
    constexpr int kDepthMax = 8;
    constexpr size_t kSizeMax = 4096;  // options that name each other would grow for ever
    constexpr char kNameCharacters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
    std::string out;
    size_t begin = 0;
    while (begin < value.size()) {
        const size_t dollar = std::min(value.find('$', begin), value.size());
        out += value.substr(begin, dollar - begin);
        if (dollar == value.size()) {
            break;
        }
        const bool braces = dollar + 1 < value.size() && value[dollar + 1] == '{';
        const size_t name_begin = dollar + (braces ? 2 : 1);
        const size_t name_end =
            std::min(value.find_first_not_of(kNameCharacters, name_begin), value.size());
        const std::string name = value.substr(name_begin, name_end - name_begin);
        const size_t dot = name.find('.');
        const std::string group = dot == std::string::npos ? section : name.substr(0, dot);
        const std::string key = dot == std::string::npos ? name : name.substr(dot + 1);
        const bool closed = !braces || (name_end < value.size() && value[name_end] == '}');
        const Option* option = table_->find(group, key);
        option =
            option == nullptr && dot == std::string::npos ? table_->find("DEFAULT", key) : option;
        if (option == nullptr || !closed || depth == kDepthMax || out.size() > kSizeMax) {
            out += '$';
            begin = dollar + 1;
            continue;
        }
        const auto given = values_.find({option->section, option->name});
        out += substituted(option->section,
                           given == values_.end() ? option->default_value : given->second.back(),
                           depth + 1);
        begin = name_end + (braces ? 1 : 0);
    }
    return out;
}

Result<void> Config::take_line(const std::string& line, std::string& section,
                               std::vector<std::string>* unknown) {
    if (line.front() == '[') {
        const size_t close = line.find(']');
        if (close == std::string::npos) {
            return Error::invalid("'{}' opens a section and does not close it", line.substr(0, 80));
        }
        section = section_key(trim(std::string_view(line).substr(1, close - 1)));
        return {};
    }
    const size_t separator = line.find_first_of("=:");
    if (separator == std::string::npos) {
        return Error::invalid("'{}' is neither a [section] nor 'key = value'", line.substr(0, 80));
    }
    const std::string name = trim(std::string_view(line).substr(0, separator));
    if (table_->find(section, name) == nullptr) {
        if (unknown == nullptr) {
            return unknown_option(*table_, section, name);
        }
        unknown->push_back(fmt::format("[{}] {}", section, name));
        return {};
    }
    values_[{section, name}].push_back(trim(std::string_view(line).substr(separator + 1)));
    return {};
}

Result<Config> Config::parse_file(const std::string& path, const OptionTable& table) {
    return parse(TRY(read_file(path)), table, path);
}

Config Config::defaults(const OptionTable& table) {
    Config config;
    config.table_ = &table;
    return config;
}

const std::vector<std::string>& Config::values(std::string_view section, std::string_view name,
                                               OptionType type) const {
    static const std::vector<std::string> kNone;
    const Option* option = table_->find(section, name);
    KUMOI_ASSERT(option != nullptr);
    const bool text_like = option->type == OptionType::Path || option->type == OptionType::HostPort;
    const bool list_like = option->type == OptionType::Multi;
    KUMOI_ASSERT(option->type == type || (type == OptionType::String && text_like) ||
                 (type == OptionType::List && list_like));
    const auto found = values_.find({std::string(section), std::string(name)});
    return found == values_.end() ? kNone : found->second;
}

std::string Config::string(std::string_view section, std::string_view name) const {
    const auto& given = values(section, name, OptionType::String);
    return given.empty() ? table_->find(section, name)->default_value : given.back();
}

int64_t Config::integer(std::string_view section, std::string_view name) const {
    const auto& given = values(section, name, OptionType::Integer);
    return *parse_number<int64_t>(given.empty() ? table_->find(section, name)->default_value
                                                : given.back());
}

double Config::floating(std::string_view section, std::string_view name) const {
    const auto& given = values(section, name, OptionType::Float);
    return *parse_number<double>(given.empty() ? table_->find(section, name)->default_value
                                               : given.back());
}

bool Config::boolean(std::string_view section, std::string_view name) const {
    const auto& given = values(section, name, OptionType::Boolean);
    return *parse_boolean(given.empty() ? table_->find(section, name)->default_value
                                        : given.back());
}

std::vector<std::string> Config::list(std::string_view section, std::string_view name) const {
    const auto& given = values(section, name, OptionType::List);
    const Option& option = *table_->find(section, name);
    if (option.type == OptionType::Multi) {
        return given.empty() && !option.default_value.empty()
                   ? std::vector<std::string>{option.default_value}
                   : given;
    }
    return split_list(given.empty() ? option.default_value : given.back());
}

bool Config::is_set(std::string_view section, std::string_view name) const {
    return values_.contains({std::string(section), std::string(name)});
}

Result<void> Config::set(std::string_view section, std::string_view name, std::string value) {
    const Option* option = table_->find(section, name);
    if (option == nullptr) {
        return unknown_option(*table_, std::string(section), std::string(name));
    }
    TRY(check_value(*option, value));
    values_[{std::string(section), std::string(name)}] = {std::move(value)};
    return {};
}

}  // namespace kumoi
