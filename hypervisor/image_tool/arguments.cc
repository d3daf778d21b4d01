#include "hypervisor/image_tool/arguments.h"

#include <algorithm>
#include <charconv>

#include "base/json.h"

namespace kumoi::hypervisor {

Result<Arguments> Arguments::parse(const std::vector<std::string>& words, const Known& known) {
    Arguments arguments;
    for (size_t i = 0; i < words.size(); ++i) {
        std::string word = words[i];
        if (word.size() < 2 || word[0] != '-') {
            arguments.names_.push_back(std::move(word));
            continue;
        }
        std::optional<std::string> value;
        if (const size_t equals = word.find('='); equals != std::string::npos) {
            value = word.substr(equals + 1);
            word.resize(equals);
        }
        const auto is_in = [&](const std::vector<std::string>& list) {
            return std::find(list.begin(), list.end(), word) != list.end();
        };
        if (is_in(known.flags) && !value) {
            arguments.values_.emplace(word, "");
        } else if (is_in(known.options)) {
            if (!value && i + 1 >= words.size()) {
                return Error::invalid("{} needs a value", word);
            }
            arguments.values_.emplace(word, value ? *value : words[++i]);
        } else {
            std::vector<std::string> all = known.options;
            all.insert(all.end(), known.flags.begin(), known.flags.end());
            const auto near = nearest_name(word, all);
            return Error::invalid("unknown option {}", word)
                .with_hint(near ? fmt::format("did you mean {}?", *near)
                                : std::string("see kumoi-img --help"));
        }
    }
    if (arguments.names_.size() < known.names_min || arguments.names_.size() > known.names_max) {
        return Error::invalid("{} names are given; the command takes {} to {}",
                              arguments.names_.size(), known.names_min, known.names_max)
            .with_hint("see kumoi-img --help");
    }
    return arguments;
}

std::string Arguments::value(const std::string& name, const std::string& other) const {
    const auto found = values_.find(name);
    return found == values_.end() ? other : found->second;
}

Result<uint64_t> parse_size(const std::string& text) {
    constexpr std::string_view kSuffixes = "KMGTP";
    std::string_view digits = text;
    unsigned shift = 0;
    if (!digits.empty()) {
        const size_t suffix =
            kSuffixes.find(static_cast<char>(digits.back() & ~0x20));  // either case
        if (digits.back() > '9' && suffix != std::string_view::npos) {
            shift = static_cast<unsigned>(suffix + 1) * 10;
            digits.remove_suffix(1);
        }
    }
    uint64_t number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || digits.empty() || end != digits.data() + digits.size() ||
        number > UINT64_MAX >> shift) {
        return Error::invalid("\"{}\" is not a size like 10G, 512M or 65536", text);
    }
    return number << shift;
}

}  // namespace kumoi::hypervisor
