// Arguments: the command line of one kumoi-img command: options with values, flags and the names
// that remain. Every command says which it knows; anything else is refused with a suggestion.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace kumoi::hypervisor {

class Arguments {
public:
    struct Known {
        std::vector<std::string> options;  // take a value
        std::vector<std::string> flags;
        size_t names_min = 1;
        size_t names_max = 1;
    };
    static Result<Arguments> parse(const std::vector<std::string>& words, const Known& known);

    bool has(const std::string& name) const { return values_.contains(name); }
    std::string value(const std::string& name, const std::string& other = {}) const;
    const std::string& name(size_t index) const { return names_[index]; }
    size_t name_count() const { return names_.size(); }

private:
    std::multimap<std::string, std::string> values_;
    std::vector<std::string> names_;
};

// "10G", "512M", "65536": bytes, with binary suffixes K M G T P.
Result<uint64_t> parse_size(const std::string& text);

}  // namespace kumoi::hypervisor
