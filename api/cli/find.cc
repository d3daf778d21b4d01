#include "api/cli/find.h"

#include <functional>
#include <vector>

namespace kumoi::cli {
namespace {

constexpr size_t kListedMax = 5;

std::vector<const Json*> matches(const Json::Array& records,
                                 const std::function<bool(const Json&)>& test) {
    std::vector<const Json*> found;
    for (const Json& record : records) {
        if (test(record)) {
            found.push_back(&record);
        }
    }
    return found;
}

Error ambiguous(std::string_view kind, std::string_view wanted,
                const std::vector<const Json*>& found, std::string_view id_member,
                std::string_view name_member) {
    std::string listed;
    for (size_t index = 0; index < found.size() && index < kListedMax; ++index) {
        listed +=
            fmt::format("{}{} ({})", index == 0 ? "" : ", ", found[index]->string_or(name_member),
                        found[index]->string_or(id_member));
    }
    return Error::conflict("{} {}s match \"{}\": {}{}.", found.size(), kind, wanted, listed,
                           found.size() > kListedMax ? ", ..." : "")
        .with_hint("Use more of the name, or the id.");
}

}  // namespace

Result<Json> find_one(std::string_view kind, const Json::Array& records, std::string_view wanted,
                      std::string_view id_member, std::string_view name_member) {
    const auto is = [&](const Json& record, std::string_view member) {
        return record.string_or(member) == wanted;
    };
    const auto begins = [&](const Json& record, std::string_view member) {
        return record.string_or(member).starts_with(wanted);
    };
    if (wanted.empty()) {
        return Error::invalid("The name of the {} is empty.", kind);
    }
    for (const auto& test : std::vector<std::function<bool(const Json&)>>{
             [&](const Json& record) { return is(record, id_member); },
             [&](const Json& record) { return is(record, name_member); },
             [&](const Json& record) {
                 return begins(record, name_member) || begins(record, id_member);
             }}) {
        const auto found = matches(records, test);
        if (found.size() == 1) {
            return *found.front();
        }
        if (found.size() > 1) {
            return ambiguous(kind, wanted, found, id_member, name_member);
        }
    }
    std::vector<std::string> names;
    for (const Json& record : records) {
        names.push_back(record.string_or(name_member));
    }
    const auto near = nearest_name(wanted, names);
    return Error::not_found("There is no {} {}.", kind, wanted)
        .with_hint(near ? fmt::format("Did you mean {}?", *near)
                        : fmt::format("See: kumoi {} list", kind));
}

}  // namespace kumoi::cli
