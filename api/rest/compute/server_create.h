// From the body of POST /servers to a CreateServers: shape, limits and words of Nova's schema, per
// microversion. What depends on records (image, flavor, quota) is the conductor's to refuse.
#pragma once

#include "api/rest/compute/compute_api.h"
#include "compute/conductor/create_request.h"

namespace kumoi::api {

struct ParsedCreate {
    compute::CreateServers servers;
    bool return_reservation_id = false;
};

Result<ParsedCreate> parse_server_create(const Call& call, const Json& body);

// Shared with PUT /servers and rebuild: "AUTO"/"MANUAL", addresses, host names, files, user data.
Result<std::optional<bool>> parse_disk_config(class Fields& fields);
Result<std::optional<std::string>> parse_access_ip(class Fields& fields, std::string_view key,
                                                   int version);
Result<std::optional<std::string>> parse_hostname(class Fields& fields, Microversion version);
Result<std::vector<std::string>> parse_tags(const Json& value);
// Empty from 2.57 on: then it is no member any more.
Result<std::map<std::string, std::string>> parse_personality(const Call& call,
                                                             class Fields& fields);
Result<std::optional<std::string>> parse_user_data(class Fields& fields);
std::string generated_password(Random& random);

}  // namespace kumoi::api
