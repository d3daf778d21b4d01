// Config: oslo-style INI with a declared option table. Every option has a section, name, type,
// default, range and help; an unknown section or key is an error with a suggestion. Values are read
// once at start; a Config is immutable afterwards and may be read from any thread.
//
//     OptionTable table;
//     table.add({"DEFAULT", "host", OptionType::String, "", "Name of this node. ..."});
//     table.add({"compute", "max_concurrent_builds", OptionType::Integer, "10", "...", 1, 1000});
//     Config config = TRY(Config::parse_file("/etc/kumoi/kumoi.conf", table));
//     int64_t builds = config.integer("compute", "max_concurrent_builds");
//
// Syntax as oslo.config: `key = value` or `key: value`, `#` and `;` comments at line start,
// repeated keys make a multi value (last one wins for the others), an indented line continues the
// value before it. Sections are case sensitive except DEFAULT.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kumoi {

enum class OptionType { String, Integer, Float, Boolean, List, Multi, Path, HostPort };

struct Option {
    std::string section;
    std::string name;
    OptionType type = OptionType::String;
    std::string default_value;
    std::string help;  // whole sentences; printed in the sample file and in kumoi.conf(5)
    std::optional<int64_t> min = {};
    std::optional<int64_t> max = {};
    std::vector<std::string> choices = {};
    bool secret = false;
};

class OptionTable {
public:
    void add(Option option);  // asserts that help is there and the default is valid
    void add_all(const std::vector<Option>& options);
    const Option* find(std::string_view section, std::string_view name) const;
    const std::vector<Option>& options() const { return options_; }
    std::vector<std::string> sections() const;
    std::string sample() const;  // a commented sample file with every option

private:
    std::vector<Option> options_;
};

class Config {
public:
    static Result<Config> parse(std::string_view text, const OptionTable& table,
                                std::string_view source_name = "configuration");
    static Result<Config> parse_file(const std::string& path, const OptionTable& table);
    // A file that other programs read too (nova.conf): what the table does not know is left out and
    // named in `unknown` ("[section] key"), `$name` and `${group.name}` in a value stand for other
    // options as in oslo.config, "<None>" and "" for an option's default.
    static Result<Config> parse_shared(std::string_view text, const OptionTable& table,
                                       std::vector<std::string>& unknown,
                                       std::string_view source_name = "configuration");
    static Config defaults(const OptionTable& table);

    // Each asserts that the option was declared with that type.
    std::string string(std::string_view section,
                       std::string_view name) const;  // String, Path, HostPort
    int64_t integer(std::string_view section, std::string_view name) const;
    double floating(std::string_view section, std::string_view name) const;
    bool boolean(std::string_view section, std::string_view name) const;
    std::vector<std::string> list(std::string_view section,
                                  std::string_view name) const;  // List, Multi
    bool is_set(std::string_view section,
                std::string_view name) const;  // in the file, not by default
    // For tests and command line overrides; checked like a line in the file.
    Result<void> set(std::string_view section, std::string_view name, std::string value);
    const OptionTable& table() const { return *table_; }

private:
    Result<void> take_text(std::string_view text, std::vector<std::string>* unknown);
    Result<void> take_line(const std::string& line, std::string& section,
                           std::vector<std::string>* unknown);
    Result<void> check_values() const;
    std::string substituted(const std::string& section, std::string value, int depth) const;
    const std::vector<std::string>& values(std::string_view section, std::string_view name,
                                           OptionType type) const;
    const OptionTable* table_ = nullptr;  // must outlive the Config
    std::map<std::pair<std::string, std::string>, std::vector<std::string>> values_;
};

}  // namespace kumoi
