// How identity records look in JSON, as Keystone v3 writes them, and how lists of them are
// filtered and paged. Pure functions.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "api/http/reply.h"
#include "api/http/request.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/conductor/identity_records.h"

namespace kumoi::api::identity {

// `base`: "http://host:port/v3", for links.
Json domain_view(const std::string& base);
Json project_view(const std::string& base, const compute::identity::Project& project);
Json user_view(const std::string& base, const compute::identity::User& user);
Json role_view(const std::string& base, const compute::identity::Role& role);
Json app_credential_view(const std::string& base, const compute::identity::AppCredential& record);
Json service_view(const std::string& base, const compute::identity::Service& service);
Json endpoint_view(const std::string& base, const compute::identity::Endpoint& endpoint);
Json region_view(const std::string& base, const compute::identity::Region& region);
Json domain_reference();  // {"id": "default", "name": "Default"}

std::string v3_base(const Request& request);

template <class Record>
Json::Array views(const std::string& base, const std::vector<Record>& records,
                  Json (*view)(const std::string&, const Record&)) {
    Json::Array items;
    items.reserve(records.size());
    for (const Record& record : records) {
        items.push_back(view(base, record));
    }
    return items;
}

// {"<key>": [...], "links": {"self", "previous", "next"}}. Filters by equality on the members named
// in `filters` (name also by name__contains, __startswith, __endswith and their i-variants), then
// pages by ?limit= and ?marker=.
Result<Reply> collection(const Request& request, std::string_view key, Json::Array items,
                         std::initializer_list<std::string_view> filters = {"name"});

}  // namespace kumoi::api::identity
